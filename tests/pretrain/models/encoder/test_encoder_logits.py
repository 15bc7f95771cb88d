"""The encoders compute what transformers' classes compute, on small random weights, in fp32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from pretrain.data.batch import MicroBatch
from pretrain.engine.single import reference_outputs
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_hidden_size": 48,
    "seq_length": 24,
    "vocab_size": 96,
    "vocab_multiple": 32,
}
COUNTERPART: dict[str, Any] = {
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 96,
    "pad_token_id": 1,
}
BATCH, LENGTH = 3, 24
LIMIT = 1e-5
Tensors = dict[str, torch.Tensor]


def randomized(model: Any) -> Any:
    """The model with every weight drawn anew, so that none is 0 or 1 by default."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.2 + (1.0 if "norm" in name.lower() or ".ln." in name else 0.0))
    return model.eval()


def per_head(qkv: list[torch.Tensor]) -> torch.Tensor:
    """Query, key and value matrices -> rows [q; k; v] of each head."""
    return torch.cat([part.unflatten(0, (4, -1)) for part in qkv], 1).flatten(0, 1)


def bert_tensors(theirs: Tensors, root: str, placement: str) -> Tensors:
    """Weights of Bert, MegatronBert and Roberta under our names, without the heads."""
    ours = {}
    for kind, name in (("word", "word"), ("position", "position"), ("token_type", "tokentype")):
        ours[f"embedding.{name}_embeddings.weight"] = theirs[f"{root}.embeddings.{kind}_embeddings.weight"]
    norms = {"post": ("attention.output.LayerNorm", "output.LayerNorm"), "pre": ("attention.ln", "ln")}[placement]
    for part in ("weight", "bias"):
        if placement == "post":
            ours[f"embedding.norm.{part}"] = theirs[f"{root}.embeddings.LayerNorm.{part}"]
        else:
            ours[f"encoder.final_layernorm.{part}"] = theirs[f"{root}.encoder.ln.{part}"]
        for number in range(4):
            mine, layer = f"encoder.layers.{number}", f"{root}.encoder.layer.{number}"
            attention = f"{layer}.attention"
            qkv = [theirs[f"{attention}.self.{which}.{part}"] for which in ("query", "key", "value")]
            ours[f"{mine}.self_attention.linear_qkv.{part}"] = per_head(qkv)
            ours[f"{mine}.self_attention.linear_proj.{part}"] = theirs[f"{attention}.output.dense.{part}"]
            ours[f"{mine}.input_layernorm.{part}"] = theirs[f"{layer}.{norms[0]}.{part}"]
            ours[f"{mine}.pre_mlp_layernorm.{part}"] = theirs[f"{layer}.{norms[1]}.{part}"]
            ours[f"{mine}.mlp.linear_fc1.{part}"] = theirs[f"{layer}.intermediate.dense.{part}"]
            ours[f"{mine}.mlp.linear_fc2.{part}"] = theirs[f"{layer}.output.dense.{part}"]
    return ours


def pretraining_head(theirs: Tensors) -> Tensors:
    """The heads of Bert and MegatronBert."""
    ours = {"output_layer.bias": theirs["cls.predictions.bias"]}
    for part in ("weight", "bias"):
        ours[f"lm_head.dense.{part}"] = theirs[f"cls.predictions.transform.dense.{part}"]
        ours[f"lm_head.layer_norm.{part}"] = theirs[f"cls.predictions.transform.LayerNorm.{part}"]
        ours[f"pooler.dense.{part}"] = theirs[f"bert.pooler.dense.{part}"]
        ours[f"pair_head.{part}"] = theirs[f"cls.seq_relationship.{part}"]
    return ours


def bert(activation: Literal["gelu", "gelu_tanh"] = "gelu") -> tuple[EncoderConfig, Any, Tensors]:
    act = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}[activation]
    config = transformers.BertConfig(**COUNTERPART, max_position_embeddings=24, hidden_act=act)
    model = randomized(transformers.BertForPreTraining(config))
    theirs = model.state_dict()
    tensors = bert_tensors(theirs, "bert", "post") | pretraining_head(theirs)
    return BertConfig(**SIZES, activation=activation), model, tensors


def megatron_bert() -> tuple[EncoderConfig, Any, Tensors]:
    model = randomized(
        transformers.MegatronBertForPreTraining(
            transformers.MegatronBertConfig(**COUNTERPART, max_position_embeddings=24)
        )
    )
    theirs = model.state_dict()
    tensors = bert_tensors(theirs, "bert", "pre") | pretraining_head(theirs)
    return BertConfig(**SIZES, norm_placement="pre"), model, tensors


def roberta() -> tuple[EncoderConfig, Any, Tensors]:
    config = transformers.RobertaConfig(
        **COUNTERPART, max_position_embeddings=26, type_vocab_size=1, layer_norm_eps=1e-5
    )
    model = randomized(transformers.RobertaForMaskedLM(config))
    theirs = model.state_dict()
    tensors = bert_tensors(theirs, "roberta", "post") | {"output_layer.bias": theirs["lm_head.bias"]}
    for part in ("weight", "bias"):
        tensors[f"lm_head.dense.{part}"] = theirs[f"lm_head.dense.{part}"]
        tensors[f"lm_head.layer_norm.{part}"] = theirs[f"lm_head.layer_norm.{part}"]
    return RobertaConfig(**SIZES), model, tensors


def modern() -> tuple[EncoderConfig, Any, Tensors]:
    config = transformers.ModernBertConfig(
        **COUNTERPART, local_attention=8, max_position_embeddings=24, cls_token_id=2, sep_token_id=3, bos_token_id=2
    )
    model = randomized(transformers.ModernBertForMaskedLM(config))
    theirs = model.state_dict()
    tensors = {
        "embedding.word_embeddings.weight": theirs["model.embeddings.tok_embeddings.weight"],
        "embedding.norm.weight": theirs["model.embeddings.norm.weight"],
        "encoder.final_layernorm.weight": theirs["model.final_norm.weight"],
        "lm_head.dense.weight": theirs["head.dense.weight"],
        "lm_head.layer_norm.weight": theirs["head.norm.weight"],
        "output_layer.bias": theirs["decoder.bias"],
    }
    for number in range(4):
        mine, layer = f"encoder.layers.{number}", f"model.layers.{number}"
        qkv = per_head(list(theirs[f"{layer}.attn.Wqkv.weight"].chunk(3)))
        tensors[f"{mine}.self_attention.linear_qkv.weight"] = qkv
        tensors[f"{mine}.self_attention.linear_proj.weight"] = theirs[f"{layer}.attn.Wo.weight"]
        tensors[f"{mine}.pre_mlp_layernorm.weight"] = theirs[f"{layer}.mlp_norm.weight"]
        tensors[f"{mine}.mlp.linear_fc1.weight"] = theirs[f"{layer}.mlp.Wi.weight"]
        tensors[f"{mine}.mlp.linear_fc2.weight"] = theirs[f"{layer}.mlp.Wo.weight"]
        if number:
            tensors[f"{mine}.input_layernorm.weight"] = theirs[f"{layer}.attn_norm.weight"]
    return ModernEncoderConfig(**SIZES, local_window=8), model, tensors


FAMILIES: dict[str, Callable[[], tuple[EncoderConfig, Any, Tensors]]] = {
    "bert": bert,
    "bert, gelu_tanh": lambda: bert("gelu_tanh"),
    "megatron-bert": megatron_bert,
    "roberta": roberta,
    "modern-encoder": modern,
}


def sentences(model: EncoderConfig) -> MicroBatch:
    """Tokens of two types, the samples of different lengths, padded with id 1 as a document of its own."""
    generator = torch.Generator().manual_seed(6)
    tokens = torch.randint(4, 96, (BATCH, LENGTH), generator=generator)
    places = torch.arange(LENGTH).expand(BATCH, -1)
    is_padding = places >= torch.tensor([[LENGTH], [17], [5]])
    types = (places >= 9).long() if model.num_token_types > 1 else torch.zeros_like(tokens)
    return MicroBatch(
        tokens_BS=tokens.masked_fill(is_padding, 1),
        labels_BS=tokens,
        loss_mask_BS=(~is_padding).float(),
        position_ids_BS=places,
        segment_ids_BS=is_padding.long(),
        extras={"token_types_BS": types},
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str) -> None:
    config, model, tensors = FAMILIES[family]()
    batch = sentences(config)
    is_read = batch.loss_mask_BS.bool()
    types = {"token_type_ids": batch.extras["token_types_BS"]} if config.num_token_types else {}
    with torch.no_grad():
        expected = model(input_ids=batch.tokens_BS, attention_mask=is_read.long(), **types)
    found = reference_outputs(config, tensors, batch)
    assert set(found) == ({"logits", "pair"} if config.has_pair_head else {"logits"})
    theirs = expected.prediction_logits if config.has_pair_head else expected.logits
    assert theirs.abs().max() > 1
    assert largest(found["logits"][is_read], theirs[is_read]) < LIMIT
    if config.has_pair_head:
        assert largest(found["pair"], expected.seq_relationship_logits) < LIMIT
    whole = reference_outputs(config, tensors, replace(batch, segment_ids_BS=None))
    assert largest(whole["logits"][is_read], theirs[is_read]) > 1e-3, "padding is seen by none"


@pytest.mark.parametrize("family", ["bert", "modern-encoder"])
def test_packed_documents_are_read_as_if_alone(family: str) -> None:
    config, model, tensors = FAMILIES[family]()
    tokens = torch.randint(4, 96, (1, LENGTH), generator=torch.Generator().manual_seed(7))
    bounds = [(0, 13), (13, 18), (18, LENGTH)]
    segments, positions = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for number, (first, end) in enumerate(bounds):
        segments[0, first:end] = number
        positions[0, first:end] = torch.arange(end - first)
    batch = MicroBatch(tokens, tokens, torch.ones(tokens.shape), positions, segments)
    packed = reference_outputs(config, tensors, batch)["logits"]
    for first, end in bounds:
        with torch.no_grad():
            alone = model(input_ids=tokens[:, first:end])
        expected = alone.prediction_logits if config.has_pair_head else alone.logits
        assert largest(packed[:, first:end], expected) < LIMIT


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())
