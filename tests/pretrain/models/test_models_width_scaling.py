"""Models with a base width: what their table says, what they compute, and what transformers computes of an export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from configs.errors import ConfigError
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import to_config
from pretrain.models.huggingface.logit_check import check_rows, compare
from pretrain.models.huggingface.token_table import compare_token_rows
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.huggingface.weights import from_hf, to_hf
from pretrain.models.parameter_table import Normal, ParameterSpec
from pretrain.models.transformer_config import EMBEDDING
from pretrain.models.width_scaling import WidthScaledConfig
from tests.finetune.finetune_oracle import random_tensors

SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_hidden_size": 48,
    "seq_length": 16,
    "vocab_size": 93,
    "vocab_multiple": 32,
}
BASE: dict[str, Any] = {"base_hidden_size": 8, "base_head_size": 2}
LAYER_NORMS: dict[str, Any] = {"normalization": "LayerNorm", "bias": True}
GEMMA: dict[str, Any] = {
    "activation": "geglu_tanh",
    "norm_plus_one": True,
    "embedding_scale": True,
    "norm_placement": "both",
}
MODELS: dict[str, WidthScaledConfig] = {
    "llama": GPTConfig(**SIZES, num_query_groups=2),
    "gpt2": GPTConfig(**SIZES, **LAYER_NORMS, activation="gelu_tanh", position_embedding="learned"),
    "qwen2": GPTConfig(**SIZES, num_query_groups=2, attention_bias="qkv", tie_embeddings=False),
    "qwen3": GPTConfig(**SIZES, qk_norm="head"),
    "olmo2": GPTConfig(**SIZES, norm_placement="after", qk_norm="projection", tie_embeddings=False),
    "phi": GPTConfig(
        **SIZES,
        **LAYER_NORMS,
        activation="gelu_tanh",
        residual="parallel_one_norm",
        output_bias=True,
        tie_embeddings=False,
    ),
    "gemma2": GPTConfig(**SIZES, **GEMMA, query_scale=6, attention_softcap=3.0, logit_softcap=2.0),
    "gemma3_text": GPTConfig(
        **SIZES, **GEMMA, qk_norm="head", sliding_window=5, global_every=2, local_rotary_base=20.0
    ),
    "gemma": GPTConfig(**SIZES, **GEMMA | {"norm_placement": "pre"}, tie_embeddings=False),
    "bert": BertConfig(**SIZES),
    "megatron-bert": BertConfig(**SIZES, norm_placement="pre", norm_epsilon=1e-5),
    "modernbert": ModernEncoderConfig(**SIZES, local_window=6),
}
IDS = RoleIds(pad=3, mask=4, classification=1, separator=2)


def scaled(model: WidthScaledConfig, **base: Any) -> WidthScaledConfig:
    return type(model)(**model.model_dump() | base)


def by_name(model: WidthScaledConfig) -> dict[str, ParameterSpec]:
    return {spec.name: spec for spec in model.parameters()}


def std_ratio(name: str, model: WidthScaledConfig, plain: WidthScaledConfig) -> float:
    drawn, before = by_name(model)[name].init, by_name(plain)[name].init
    assert isinstance(drawn, Normal) and isinstance(before, Normal)
    return drawn.std / before.std


def test_the_table_says_what_is_drawn_narrower_and_what_grows() -> None:
    plain = MODELS["qwen3"]
    wide = scaled(plain, **BASE | {"base_head_size": 4})
    layer = "decoder.layers.1."
    matrices = [f"{layer}{name}.weight" for name in ("self_attention.linear_qkv", "mlp.linear_fc1", "mlp.linear_fc2")]
    for name in matrices:
        assert std_ratio(name, wide, plain) == 0.5
        assert (by_name(wide)[name].matrix_growth, by_name(wide)[name].vector_growth) == (4.0, 1.0)
    assert std_ratio("embedding.word_embeddings.weight", wide, plain) == 1.0
    growth = {name: spec.vector_growth for name, spec in by_name(wide).items() if name not in matrices}
    assert growth["embedding.word_embeddings.weight"] == growth[f"{layer}input_layernorm.weight"] == 4.0
    assert growth[f"{layer}self_attention.q_layernorm.weight"] == 2.0  # of one head
    of_all_heads = by_name(scaled(MODELS["olmo2"], **BASE))
    assert of_all_heads[f"{layer}self_attention.q_layernorm.weight"].vector_growth == 4.0
    assert by_name(scaled(MODELS["phi"], **BASE))["output_layer.bias"].vector_growth == 1.0
    encoder = by_name(scaled(MODELS["bert"], **BASE))
    assert encoder["lm_head.dense.weight"].matrix_growth == encoder["pooler.dense.weight"].matrix_growth == 4.0
    assert encoder["pair_head.weight"].vector_growth == 4.0
    assert encoder["pair_head.bias"].vector_growth == encoder["output_layer.bias"].vector_growth == 1.0
    assert all(spec.matrix_growth == spec.vector_growth == 1.0 for spec in plain.parameters())


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_logits_are_divided_by_the_width_and_scores_by_the_root_of_the_heads(name: str) -> None:
    from pretrain.engine.single import reference_outputs

    plain = MODELS[name]
    tensors, rows = random_tensors(plain), check_rows(plain, [], 2, 0, IDS)
    outputs = reference_outputs(plain, tensors, rows)
    divided = reference_outputs(scaled(plain, base_hidden_size=8), tensors, rows)
    bias = tensors.get("output_layer.bias", torch.zeros(()))
    torch.testing.assert_close(divided["logits"] - bias, (outputs["logits"] - bias) / 4)
    if "pair" in outputs:
        bias = tensors["pair_head.bias"]
        torch.testing.assert_close(divided["pair"] - bias, (outputs["pair"] - bias) / 4)
    # Heads four times as wide: as if the queries were half as large.
    queries = {key: tensor.clone() for key, tensor in tensors.items()}
    per_group = plain.num_attention_heads // plain.query_groups
    for key in queries:
        if ".linear_qkv." in key:
            queries[key].view(plain.query_groups, -1, plain.head_size, *queries[key].shape[1:])[:, :per_group] /= 2
    smaller = reference_outputs(plain, queries, rows)["logits"]
    same_width = reference_outputs(scaled(plain, base_hidden_size=32, base_head_size=2), tensors, rows)["logits"]
    torch.testing.assert_close(same_width, smaller, atol=1e-5, rtol=1e-4)
    assert (smaller - outputs["logits"]).abs().max() > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_an_export_computes_the_same_without_multipliers(name: str) -> None:
    model = scaled(MODELS[name], **BASE)
    ours = random_tensors(model)
    kept = {key: tensor.clone() for key, tensor in ours.items()}
    fields = to_config(model, IDS)
    assert fields["model_type"] == name
    theirs = model_from_tensors(fields, dict(to_hf(ours, model, IDS)))
    rows = check_rows(model, list(range(6, 16)), 2, 0, IDS)
    agreement = compare(model, ours, theirs, rows)
    assert agreement.largest_difference < 2e-5 < 0.1 < agreement.largest_logit
    assert ("pair" in agreement.outputs) == model.has_pair_head
    assert compare_token_rows(model, ours, theirs, IDS) == model.vocab_size
    assert all(torch.equal(ours[key], kept[key]) for key in ours)
    # Left out, the multipliers show.
    plain = model_from_tensors(fields, dict(to_hf(ours, MODELS[name], IDS)))
    assert compare(model, ours, plain, rows).largest_difference > 0.1


def test_what_multiplies_embeddings_does_not_grow_with_the_width() -> None:
    from pretrain.engine.single import reference_outputs

    plain = MODELS["gemma2"]
    model, tensors, rows = scaled(plain, base_hidden_size=8), random_tensors(plain), check_rows(plain, [], 2, 0, IDS)
    assert isinstance(model, GPTConfig) and (model.embedding_multiplier, model.head_ratio) == (8**0.5, 1.0)
    # Half as large in the class that multiplies by the root of 32, whose last norm, of 1 + its weight, undoes it.
    norm = "decoder.final_layernorm.weight"
    halved = tensors | {EMBEDDING: tensors[EMBEDDING] / 2, norm: (1 + tensors[norm]) / 2 - 1}
    found = reference_outputs(model, tensors, rows)["logits"]
    expected = reference_outputs(plain, halved, rows)["logits"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_at_the_width_of_its_base_a_model_is_the_same() -> None:
    plain = MODELS["llama"]
    same = scaled(plain, base_hidden_size=32, base_head_size=8)
    assert isinstance(same, GPTConfig) and list(same.parameters()) == list(plain.parameters())
    assert (same.softmax_scale(0), same.output_multiplier) == (None, 1.0)
    assert same.resolved() == plain.resolved()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="base_head_size is 4, and base_hidden_size is null"):
        GPTConfig(**SIZES, base_head_size=4)

    class Bypassing(GPTConfig):
        def parameters(self) -> Iterator[ParameterSpec]:
            return self.unscaled_parameters()

    assert Bypassing(**SIZES).num_parameters() == GPTConfig(**SIZES).num_parameters()
    with pytest.raises(ValidationError, match="base_hidden_size is 8, and Bypassing gives its parameters without it"):
        Bypassing(**SIZES, base_hidden_size=8)
    model = scaled(MODELS["llama"], **BASE)
    theirs = dict(to_hf(random_tensors(model), model))
    with pytest.raises(ConfigError, match=r"model.base_hidden_size: is set, and a transformers model has none"):
        list(from_hf(theirs, model))
