"""Decoders after GPT-2 and Llama <-> transformers: equal logits of megatron-core's both ways, and planted mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import older_spellings
from pretrain.models.huggingface.family import class_name, counterpart_of, from_config, obstacle_to_export, to_config
from pretrain.models.huggingface.logit_check import check_rows, compare, require
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.huggingface.weights import from_hf, to_hf
from tests.finetune.finetune_oracle import random_tensors

SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "ffn_hidden_size": 48,
    "seq_length": 24,
    "vocab_size": 93,
    "vocab_multiple": 32,
}
LLAMA3 = {"kind": "llama3", "factor": 8, "original_seq_length": 12}
YARN = {"kind": "yarn", "factor": 4, "original_seq_length": 6}
NORM_AND_BIAS = {"normalization": "LayerNorm", "bias": True}
GEMMA = {"activation": "geglu_tanh", "norm_plus_one": True, "embedding_scale": True, "attention_head_size": 12}
GEMMA2 = GEMMA | {"norm_placement": "both", "query_scale": 10, "sliding_window": 5, "global_every": 2}
LIMIT = 5e-5
"""Half of what an export may differ by; norms that multiply by about 2 make Gemma's scores large."""
Tensors = dict[str, torch.Tensor]
Fields = dict[str, Any]


def gpt(**choices: Any) -> GPTConfig:
    return GPTConfig(**(SIZES | choices))


MODELS: dict[str, GPTConfig] = {
    "qwen2": gpt(attention_bias="qkv", rotary_base=500.0),
    "qwen2, local and global": gpt(attention_bias="qkv", sliding_window=6, global_every=4, tie_embeddings=False),
    "mistral": gpt(sliding_window=5, attention_head_size=10, tie_embeddings=False),
    "qwen3": gpt(qk_norm="head", attention_head_size=12, norm_epsilon=1e-6),
    "qwen3, longer by yarn": gpt(qk_norm="head", rotary_scaling=YARN, attention_bias="all", sliding_window=7),
    "llama, longer": gpt(rotary_scaling=LLAMA3, rotary_base=100.0, attention_head_size=12),
    "llama, longer by yarn": gpt(rotary_scaling=YARN | {"beta_fast": 4, "attention_factor": 1.3}, rotary_base=50.0),
    "llama, biases of the attention": gpt(attention_bias="all", rotary_scaling={"kind": "linear", "factor": 3}),
    "starcoder2, window": gpt(**NORM_AND_BIAS, activation="gelu_tanh", sliding_window=4),
    "gpt_neox": gpt(
        **NORM_AND_BIAS,
        num_query_groups=4,
        activation="gelu",
        residual="parallel",
        rotary_percent=0.25,
        tie_embeddings=False,
    ),
    "gpt_neox, one after the other": gpt(
        **NORM_AND_BIAS,
        num_query_groups=4,
        activation="gelu_tanh",
        rotary_percent=0.5,
        rotary_scaling=LLAMA3,
        attention_bias="none",
    ),
    "phi": gpt(
        **NORM_AND_BIAS,
        activation="gelu_tanh",
        residual="parallel_one_norm",
        rotary_percent=0.5,
        output_bias=True,
        tie_embeddings=False,
    ),
    "gemma": gpt(**GEMMA),
    "gemma2": gpt(**GEMMA2, attention_softcap=3.0, logit_softcap=2.0),
    "gemma2, no caps": gpt(**GEMMA2 | {"query_scale": None, "sliding_window": None, "global_every": None}),
    "gemma3_text": gpt(
        **GEMMA2 | {"global_every": 3},
        qk_norm="head",
        local_rotary_base=20.0,
        rotary_base=3000.0,
        rotary_scaling={"kind": "linear", "factor": 8},
    ),
    "gemma3_text, one base": gpt(**GEMMA2, qk_norm="head", logit_softcap=4.0, rotary_base=50.0),
    "olmo2": gpt(norm_placement="after", qk_norm="projection", tie_embeddings=False),
}
CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama, longer": "LlamaForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "phi": "PhiForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
}


@pytest.mark.parametrize("name", MODELS)
def test_the_transformers_model_computes_what_ours_does_and_comes_back(name: str) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    fields = to_config(model)
    theirs = model_from_tensors(fields, dict(to_hf(ours, model)))
    assert fields["model_type"] == name.partition(",")[0]
    assert class_name(model) == CLASSES.get(name, class_name(model))
    agreement = compare(model, ours, theirs, check_rows(model, list(range(6, 16)), 2, 0))
    assert agreement.largest_logit > 1 and agreement.largest_difference < LIMIT
    back = dict(from_hf(theirs.state_dict(), model))
    assert set(back) == set(ours)
    for key, tensor in ours.items():
        kept = model.vocab_size if "word_embeddings" in key or key.startswith("output_layer") else None
        assert torch.equal(back[key][:kept], tensor[:kept]) and back[key].shape == tensor.shape, key
    complete = theirs.config.to_dict()
    again = from_config(complete)
    assert again.resolved() | {"vocab_multiple": 0} == model.resolved() | {"vocab_multiple": 0}
    spelled = type(theirs.config).from_dict(complete | older_spellings(complete)).to_dict()
    assert from_config(spelled) == again


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_transformers_is_computed_by_ours(name: str) -> None:
    """A config and weights that transformers made itself."""
    import transformers

    config = transformers.AutoConfig.for_model(**to_config(MODELS[name]))
    torch.manual_seed(3)
    theirs = getattr(transformers, CLASSES[name])(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # transformers' own are so small that biases and eps would not show
            parameter.add_(0.2 * torch.randn_like(parameter))
    model = from_config(config.to_dict())
    tensors = dict(from_hf(theirs.state_dict(), model))
    assert set(tensors) == {spec.name for spec in model.parameters()}
    agreement = compare(model, tensors, theirs, check_rows(model, [], 2, 1))
    assert agreement.largest_logit > 1 and agreement.largest_difference < LIMIT


def swap(theirs: Tensors, one: str, other: str) -> None:
    theirs[one], theirs[other] = theirs[other], theirs[one]


def packed_qkv_bias(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    packed = ours["decoder.layers.1.self_attention.linear_qkv.bias"]
    for x, part in zip("qkv", packed.split([32, 16, 16])):
        theirs[f"model.layers.1.self_attn.{x}_proj.bias"] = part


def window_without_the_token_itself(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["sliding_window"] += 1


def query_and_key_norms_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    swap(theirs, *(f"model.layers.2.self_attn.{x}_norm.weight" for x in "qk"))


def no_scaling(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["rope_parameters"]["rope_type"] = "default"


def scaled_everywhere(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["rope_parameters"]["low_freq_factor"] = 3.9


def whole_head_rotated(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["rope_parameters"]["partial_rotary_factor"] = 1.0


def one_after_the_other(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["use_parallel_residual"] = False


def queries_of_all_heads_first(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    theirs[name] = torch.cat([theirs[name].view(4, 3, 8, 32)[:, x].flatten(0, 1) for x in range(3)])


def output_bias_missing(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["lm_head.bias"] = torch.zeros_like(theirs["lm_head.bias"])


def one_added_to_the_norms(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["model.norm.weight"] = theirs["model.norm.weight"] + 1


def embeddings_scaled_already(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["model.embed_tokens.weight"] = theirs["model.embed_tokens.weight"] * 32**-0.5


def norms_of_the_mlp_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    swap(theirs, *(f"model.layers.0.{x}_feedforward_layernorm.weight" for x in ("pre", "post")))


def global_layer_first(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["layer_types"] = fields["layer_types"][::-1]


def no_cap_of_scores(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["attn_logit_softcapping"] = None


def no_cap_of_logits(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["final_logit_softcapping"] = None


def query_scale_of_the_head(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["query_pre_attn_scalar"] = fields["head_dim"]


def rotary_bases_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    rope = fields["rope_parameters"]
    fields["rope_parameters"] = dict(zip(rope, reversed(list(rope.values()))))


def norms_before(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    swap(theirs, *(f"model.layers.3.post_{x}_layernorm.weight" for x in ("attention", "feedforward")))


MISTAKES: list[tuple[str, Callable[[Fields, Tensors, Tensors], None]]] = [
    ("qwen2", packed_qkv_bias),
    ("mistral", window_without_the_token_itself),
    ("qwen3", query_and_key_norms_swapped),
    ("qwen3, longer by yarn", no_scaling),
    ("llama, longer", scaled_everywhere),
    ("gpt_neox", whole_head_rotated),
    ("gpt_neox", one_after_the_other),
    ("gpt_neox", queries_of_all_heads_first),
    ("phi", output_bias_missing),
    ("gemma", one_added_to_the_norms),
    ("gemma", embeddings_scaled_already),
    ("gemma2", norms_of_the_mlp_swapped),
    ("gemma2", global_layer_first),
    ("gemma2", no_cap_of_scores),
    ("gemma2", no_cap_of_logits),
    ("gemma2", query_scale_of_the_head),
    ("gemma3_text", rotary_bases_swapped),
    ("olmo2", norms_before),
]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_wrong_mapping_is_refused(name: str, mistake: Callable[[Fields, Tensors, Tensors], None]) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    fields, theirs = to_config(model), {key: value.clone() for key, value in to_hf(ours, model)}
    mistake(fields, theirs, ours)
    agreement = compare(model, ours, model_from_tensors(fields, theirs), check_rows(model, [], 2, 0))
    with pytest.raises(CheckpointError, match="nothing was written"):
        require(agreement, Path("run"))


@pytest.mark.parametrize(
    ("name", "choices", "text"),
    [
        ("qwen2", {"bias": True}, "model.attention_bias=qkv"),
        ("mistral", {"global_every": 2}, "model.global_every=2"),
        ("qwen3", {"qk_norm": "projection"}, "model.qk_norm=projection"),
        ("llama, longer", {"rotary_percent": 0.5}, "model.rotary_percent=0.5"),
        ("gpt_neox", {"num_query_groups": 2}, "model.num_query_groups=2"),
        ("phi", {"output_bias": False}, "model.output_bias=false"),
        ("gemma", {"logit_softcap": 5.0}, "model.logit_softcap=5.0"),
        ("gemma2", {"norm_plus_one": False}, "model.norm_plus_one=false"),
        ("gemma2", {"hidden_size": 34}, "model.hidden_size=34"),
        ("gemma3_text", {"attention_softcap": 5.0}, "model.attention_softcap=5.0"),
        ("gemma3_text", {"local_rotary_base": None}, "model.rotary_scaling="),
        ("olmo2", {"query_scale": 7}, "model.query_scale=7"),
    ],
)
def test_what_has_no_counterpart_is_told(name: str, choices: dict[str, Any], text: str) -> None:
    model = gpt(**(MODELS[name].model_dump(exclude_unset=True) | choices))
    assert text in str(obstacle_to_export(model))
    with pytest.raises(ConfigError, match="has no counterpart in transformers"):
        counterpart_of(model)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("llama, longer", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ("llama, longer", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "original_max_position"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 4}, "layer_types"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", {"hidden_activation": "gelu"}, "gelu"),
        ("gemma3_text", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping"),
    ],
)
def test_foreign_features_are_refused_on_import(name: str, change: Fields, named: str) -> None:
    with pytest.raises(DataError, match=named):
        from_config(to_config(MODELS[name]) | change)
    older = to_config(MODELS["gemma"]) | {"hidden_activation": None}
    assert from_config(older).model_dump()["activation"] == "geglu_tanh"
