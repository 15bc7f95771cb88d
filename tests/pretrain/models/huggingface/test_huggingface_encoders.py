"""Encoders <-> transformers: equal outputs both ways through the product's mapping, and the mistakes it is checked for.

Ours is computed by megatron-core, as it is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain.engine.single import reference_outputs
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import class_name, counterpart_of, from_config, obstacle_to_export, to_config
from pretrain.models.huggingface.logit_check import PADDING_SEGMENT, check_rows, compare, require
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.huggingface.weights import from_hf, to_hf
from tests.finetune.finetune_oracle import random_tensors

SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_hidden_size": 48,
    "seq_length": 24,
    "vocab_size": 93,
    "vocab_multiple": 32,
}
IDS = RoleIds(end_of_document=1, pad=2, mask=3, classification=4, separator=5)
Tensors = dict[str, torch.Tensor]

MODELS: dict[str, EncoderConfig] = {
    "bert": BertConfig(**SIZES),
    "bert without pooler, tanh": BertConfig(**SIZES, pooler=False, activation="gelu_tanh", norm_epsilon=1e-3),
    "bert, three token types": BertConfig(**SIZES, token_types=3),
    "megatron-bert": BertConfig(**SIZES, norm_placement="pre", norm_epsilon=1e-5),
    "megatron-bert without pooler": BertConfig(**SIZES, norm_placement="pre", pooler=False),
    "roberta": RobertaConfig(**SIZES),
    "modernbert": ModernEncoderConfig(**SIZES, local_window=6),
    "modernbert, all local but one": ModernEncoderConfig(
        **SIZES, local_window=4, global_every=9, local_rotary_base=50.0, global_rotary_base=7000.0, bias=True
    ),
}
CLASSES = {
    "bert": "BertForPreTraining",
    "bert without pooler, tanh": "BertForMaskedLM",
    "megatron-bert": "MegatronBertForPreTraining",
    "megatron-bert without pooler": "MegatronBertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
}


def difference(model: EncoderConfig, ours: Tensors, fields: dict[str, Any], theirs: Tensors) -> tuple[float, set[str]]:
    rows = check_rows(model, list(range(6, 16)), 2, 0, IDS)
    agreement = compare(model, ours, model_from_tensors(fields, theirs), rows)
    assert agreement.largest_logit > 1
    return agreement.largest_difference, set(agreement.outputs)


@pytest.mark.parametrize("name", MODELS)
def test_the_transformers_model_computes_what_ours_does(name: str) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    largest, outputs = difference(model, ours, to_config(model, IDS), dict(to_hf(ours, model, IDS)))
    assert largest < 1e-5
    assert outputs == ({"logits", "pair"} if model.has_pair_head else {"logits"})
    assert class_name(model) == CLASSES.get(name, class_name(model))


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_transformers_is_computed_by_ours(name: str) -> None:
    """A config and weights that transformers made itself."""
    import transformers

    fields = to_config(MODELS[name], IDS)
    config = transformers.AutoConfig.for_model(**fields)
    torch.manual_seed(3)
    theirs = getattr(transformers, CLASSES[name])(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # transformers' own are so small that biases and eps would not show
            parameter.add_(0.2 * torch.randn_like(parameter))
    model = from_config(config.to_dict())
    assert isinstance(model, EncoderConfig)
    ids = RoleIds.of(config.to_dict())
    assert ids.pad == IDS.pad and ids.classification == IDS.classification
    tensors = dict(from_hf(theirs.state_dict(), model, ids))
    assert set(tensors) == {spec.name for spec in model.parameters()}
    agreement = compare(model, tensors, theirs, check_rows(model, [], 2, 1, ids))
    assert agreement.largest_logit > 1 and agreement.largest_difference < 2e-5


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_config_come_back_unchanged(name: str) -> None:
    from transformers import AutoConfig

    model = MODELS[name]
    ours = random_tensors(model)
    back = dict(from_hf(dict(to_hf(ours, model, IDS)), model, IDS))
    assert set(back) == set(ours)
    for key, tensor in ours.items():
        by_token = "word_embeddings" in key or key == "output_layer.bias"
        unread = model.first_position if "position_embeddings" in key else 0
        kept = slice(unread, model.vocab_size if by_token else None)
        assert torch.equal(back[key][kept], tensor[kept]) and back[key].shape == tensor.shape, key
    again = from_config(AutoConfig.for_model(**to_config(model, IDS)).to_dict())
    changed = {"vocab_multiple"} | ({"global_every"} if "all local" in name else set())
    assert again.model_dump(exclude=changed) == model.model_dump(exclude=changed)
    if isinstance(model, ModernEncoderConfig) and isinstance(again, ModernEncoderConfig):
        assert [again.window(n) for n in range(4)] == [model.window(n) for n in range(4)]


def test_the_rows_of_the_check_show_all_that_an_encoder_reads() -> None:
    model = MODELS["bert"]
    rows = check_rows(model, [50, 51], 2, 0, IDS)
    tokens, segments = rows.tokens_BS, rows.segment_ids_BS
    assert segments is not None and tokens.shape == (5, 24)
    assert tokens[0, 0] == IDS.classification and tokens[0, -1] == IDS.separator and tokens[0, 12] == IDS.mask
    assert [sorted(set(row.tolist())) for row in segments] == [[0], [0], [-1, 0], [-1, 0, 1], [0]]
    assert torch.equal(tokens == IDS.pad, segments == PADDING_SEGMENT)
    assert set(rows.extras["token_types_BS"].unique().tolist()) == {0, 1}
    assert rows.position_ids_BS[3].tolist() == [*range(8), *range(16)]
    assert "token_types_BS" not in check_rows(MODELS["modernbert"], [], 2, 0, IDS).extras


Fields = dict[str, Any]


def swap(theirs: Tensors, one: str, other: str) -> None:
    theirs[one], theirs[other] = theirs[other], theirs[one]


def query_and_key_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    swap(theirs, *(f"bert.encoder.layer.2.attention.self.{x}.weight" for x in ("query", "key")))


def naive_qkv(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    packed = ours["encoder.layers.1.self_attention.linear_qkv.weight"]
    for name, part in zip(("query", "key", "value"), packed.chunk(3)):
        theirs[f"bert.encoder.layer.1.attention.self.{name}.weight"] = part


def stacked_qkv_left_packed(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["model.layers.1.attn.Wqkv.weight"] = ours["encoder.layers.1.self_attention.linear_qkv.weight"]


def gate_and_up_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["model.layers.3.mlp.Wi.weight"] = theirs["model.layers.3.mlp.Wi.weight"].roll(48, 0)


def wrong_epsilon(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["layer_norm_eps"] = 1e-3


def token_types_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    name = "bert.embeddings.token_type_embeddings.weight"
    theirs[name] = theirs[name].flip(0)


def decoder_bias_missing(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["cls.predictions.bias"] = torch.zeros_like(theirs["cls.predictions.bias"])


def pooler_transposed(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["bert.pooler.dense.weight"] = theirs["bert.pooler.dense.weight"].t().contiguous()


def pair_labels_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    for part in ("weight", "bias"):
        theirs[f"cls.seq_relationship.{part}"] = theirs[f"cls.seq_relationship.{part}"].flip(0)


def positions_off_by_one(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    name = "roberta.embeddings.position_embeddings.weight"
    theirs[name] = theirs[name].roll(1, 0)


def norms_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    layer = "bert.encoder.layer.0"
    swap(theirs, f"{layer}.attention.output.LayerNorm.weight", f"{layer}.output.LayerNorm.weight")


def rotary_bases_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    rope = fields["rope_parameters"]
    fields["rope_parameters"] = dict(zip(rope, reversed(list(rope.values()))))


def window_to_either_side_as_width(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["local_attention"] *= 2


def other_gelu(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["hidden_act"] = "gelu_new"


MISTAKES: list[tuple[str, Callable[[Fields, Tensors, Tensors], None]]] = [
    ("bert", query_and_key_swapped),
    ("bert", naive_qkv),
    ("bert", wrong_epsilon),
    ("bert", token_types_swapped),
    ("bert", decoder_bias_missing),
    ("bert", pooler_transposed),
    ("bert", pair_labels_swapped),
    ("bert", norms_swapped),
    ("bert", other_gelu),
    ("roberta", positions_off_by_one),
    ("modernbert", stacked_qkv_left_packed),
    ("modernbert", gate_and_up_swapped),
    ("modernbert", rotary_bases_swapped),
    ("modernbert", window_to_either_side_as_width),
]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_wrong_mapping_is_refused(name: str, mistake: Callable[[Fields, Tensors, Tensors], None]) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    fields, theirs = to_config(model, IDS), {key: value.clone() for key, value in to_hf(ours, model, IDS)}
    mistake(fields, theirs, ours)
    rows = check_rows(model, [], 2, 0, IDS)
    agreement = compare(model, ours, model_from_tensors(fields, theirs), rows)
    with pytest.raises(CheckpointError, match="nothing was written"):
        require(agreement, Path("run"))


@pytest.mark.parametrize("pad", [0, 1, 17])
def test_positions_of_roberta_follow_the_padding_token(pad: int) -> None:
    model, ids = MODELS["roberta"], RoleIds(pad=pad)
    ours = random_tensors(model)
    fields = to_config(model, ids)
    assert fields["max_position_embeddings"] == 24 + pad + 1
    theirs = model_from_tensors(fields, dict(to_hf(ours, model, ids)))
    assert compare(model, ours, theirs, check_rows(model, [], 1, 0, ids)).largest_difference < 1e-5
    with pytest.raises(ConfigError, match="no token to pad with"):
        to_config(model)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            BertConfig(**SIZES, bias=False),
            "model.norm_placement=post and model.normalization=LayerNorm with model.bias=false",
        ),
        (BertConfig(**SIZES, normalization="RMSNorm"), "with model.normalization=RMSNorm"),
        (RobertaConfig(**SIZES, normalization="RMSNorm"), "model.normalization=RMSNorm"),
        (ModernEncoderConfig(**SIZES, normalization="RMSNorm"), "model.normalization=RMSNorm"),
    ],
)
def test_what_has_no_counterpart_is_told(model: EncoderConfig, text: str) -> None:
    assert text in str(obstacle_to_export(model))
    with pytest.raises(ConfigError, match="has no counterpart in transformers"):
        counterpart_of(model)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"hidden_act": "relu"}, "relu"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("roberta", {"type_vocab_size": 2}, "type_vocab_size"),
        ("roberta", {"pad_token_id": None}, "pad_token_id"),
        ("modernbert", {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2}, "layer_types"),
        ("modernbert", {"norm_bias": True}, "norm_bias"),
        ("modernbert", {"mlp_dropout": 0.3}, "mlp_dropout"),
        ("bert", {"num_attention_heads": 5}, "num_attention_heads 5"),
        ("modernbert", {"hidden_activation": "silu"}, "hidden_activation"),
    ],
)
def test_foreign_features_are_refused_on_import(name: str, change: Fields, named: str) -> None:
    with pytest.raises(DataError, match=named):
        from_config(to_config(MODELS[name], IDS) | change)


def test_a_config_that_leaves_something_out_is_refused() -> None:
    fields = {key: value for key, value in to_config(MODELS["bert"], IDS).items() if key != "num_hidden_layers"}
    with pytest.raises(DataError, match="says nothing of 'num_hidden_layers'"):
        from_config(fields)


def test_without_segments_a_reference_fails_the_check() -> None:
    """What the packed and the padded row are for: a model whose documents see each other does not pass."""
    from dataclasses import replace

    model = MODELS["modernbert"]
    ours = random_tensors(model)
    theirs = model_from_tensors(to_config(model, IDS), dict(to_hf(ours, model, IDS)))

    def leaking(config: Any, tensors: Any, batch: Any) -> Any:
        return reference_outputs(config, tensors, replace(batch, segment_ids_BS=None))

    assert compare(model, ours, theirs, check_rows(model, [], 1, 0, IDS), leaking).largest_difference > 1e-3
