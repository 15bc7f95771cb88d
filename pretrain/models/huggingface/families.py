"""Which transformers architecture a model is: `GPTConfig` <-> the fields of a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from configs.errors import ConfigError, DataError
from pretrain.models.gpt.config import GPTConfig

FamilyName = Literal["llama", "gpt2", "starcoder2"]

SUPPORTED = (
    "position_embedding=rope + normalization=RMSNorm + activation=swiglu (Llama); "
    "position_embedding=learned + normalization=LayerNorm + activation=gelu or gelu_tanh, without grouped-query "
    "attention (GPT-2); position_embedding=rope + normalization=LayerNorm + activation=gelu or gelu_tanh (Starcoder2)"
)

_ACTIVATIONS = {
    "llama": {"swiglu": "silu"},
    "gpt2": {"gelu_tanh": "gelu_new", "gelu": "gelu"},
    "starcoder2": {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"},
}
_SYNONYMS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "silu": "swiglu"}
_CLASS_PREFIX = {"llama": "Llama", "gpt2": "GPT2", "starcoder2": "Starcoder2"}
_CAUSAL_SUFFIX = {"llama": "ForCausalLM", "gpt2": "LMHeadModel", "starcoder2": "ForCausalLM"}


@dataclass(frozen=True)
class SpecialIds:
    """Token ids that a Hugging Face config names; None: the tokenizer has no such token."""

    end_of_document: int | None = None
    begin_of_document: int | None = None
    pad: int | None = None


def family_of(model: GPTConfig) -> FamilyName:
    """The transformers architecture that computes exactly what `model` computes.

    Raises:
        ConfigError: no architecture does; names the field that stands in the way and what is supported.
    """
    if model.position_embedding == "learned":
        family: FamilyName = "gpt2"
        _need(model, "normalization", ("LayerNorm",), "learned positions")
        _need(model, "activation", tuple(_ACTIVATIONS[family]), "learned positions")
        if model.query_groups != model.num_attention_heads:
            _refuse(model, "num_query_groups", f"{model.num_attention_heads} (as many as heads)", "learned positions")
        return family
    family = "llama" if model.normalization == "RMSNorm" else "starcoder2"
    _need(model, "activation", tuple(_ACTIVATIONS[family]), f"rotary positions and {model.normalization}")
    return family


def class_name(family: FamilyName, head: Literal["causal", "classification"] = "causal") -> str:
    """Name of the transformers class, such as `LlamaForCausalLM`."""
    suffix = _CAUSAL_SUFFIX[family] if head == "causal" else "ForSequenceClassification"
    return _CLASS_PREFIX[family] + suffix


def to_hf_config(model: GPTConfig, special: SpecialIds = SpecialIds()) -> dict[str, Any]:
    """The keyword arguments of the transformers config class, `model_type` among them.

    The vocabulary is the tokenizer's (`vocab_size`): the padded rows of the embedding are not exported.

    Raises:
        ConfigError: if no architecture fits, or `vocab_size` is null.
    """
    family = family_of(model)
    if model.vocab_size is None:
        raise ConfigError("is null", where="model.vocab_size", expected="the number of token ids")
    common: dict[str, Any] = {
        "model_type": family,
        "architectures": [class_name(family)],
        "vocab_size": model.vocab_size,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
        "bos_token_id": special.begin_of_document,
        "eos_token_id": special.end_of_document,
        "pad_token_id": special.pad,
        "use_cache": True,
    }
    activation = _ACTIVATIONS[family][model.activation]
    if family == "gpt2":
        return common | {
            "n_positions": model.seq_length,
            "n_embd": model.hidden_size,
            "n_layer": model.num_layers,
            "n_head": model.num_attention_heads,
            "n_inner": model.ffn_size,
            "activation_function": activation,
            "resid_pdrop": model.hidden_dropout,
            "embd_pdrop": model.hidden_dropout,
            "attn_pdrop": model.attention_dropout,
            "layer_norm_epsilon": model.norm_epsilon,
        }
    rotary = common | {
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.query_groups,
        "hidden_act": activation,
        "max_position_embeddings": model.seq_length,
        "attention_dropout": model.attention_dropout,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rotary_base},
    }
    if family == "llama":
        return rotary | {
            "rms_norm_eps": model.norm_epsilon,
            "attention_bias": model.bias,
            "mlp_bias": model.bias,
            "head_dim": model.head_size,
        }
    return rotary | {
        "norm_epsilon": model.norm_epsilon,
        "use_bias": model.bias,
        "residual_dropout": model.hidden_dropout,
        "embedding_dropout": model.hidden_dropout,
        "sliding_window": None,
    }


def from_hf_config(hf: Mapping[str, Any], where: Path | str = "config.json") -> GPTConfig:
    """The `GPTConfig` that a Hugging Face config describes, with an unpadded vocabulary multiple of 128.

    Args:
        hf: the parsed `config.json`, complete (as `PreTrainedConfig.to_dict` gives it).
        where: names the source in errors.

    Raises:
        DataError: an architecture or a feature that our model does not have.
    """
    family = hf.get("model_type")
    if family not in _ACTIVATIONS:
        raise DataError(f"model_type is {family!r}", where=where, expected=f"one of {', '.join(_ACTIVATIONS)}")
    if family == "gpt2":
        _refuse_hf(hf, where, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
        fields = _from_gpt2(hf)
    else:
        _refuse_hf(hf, where, sliding_window=None, pretraining_tp=1)
        fields = _from_rotary(hf, where)
    activation = hf["activation_function" if family == "gpt2" else "hidden_act"]
    ours = _SYNONYMS.get(activation)
    if ours not in _ACTIVATIONS[family]:
        raise DataError(
            f"activation is {activation!r}", where=where, expected=" or ".join(_ACTIVATIONS[family].values())
        )
    return GPTConfig(
        activation=ours,  # type: ignore[arg-type]
        vocab_size=hf["vocab_size"],
        tie_embeddings=hf.get("tie_word_embeddings", True),
        init_std=hf.get("initializer_range") or 0.02,
        **fields,
    )


def _from_gpt2(hf: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_layers": hf["n_layer"],
        "hidden_size": hf["n_embd"],
        "num_attention_heads": hf["n_head"],
        "ffn_hidden_size": hf.get("n_inner") or 4 * hf["n_embd"],
        "seq_length": hf["n_positions"],
        "position_embedding": "learned",
        "normalization": "LayerNorm",
        "norm_epsilon": hf["layer_norm_epsilon"],
        "bias": True,
        "hidden_dropout": hf.get("resid_pdrop", 0.0),
        "attention_dropout": hf.get("attn_pdrop", 0.0),
    }


def _from_rotary(hf: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    rope = hf.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise DataError(f"rope_parameters is {rope}", where=where, expected="rope_type 'default' on the whole head")
    heads, hidden = hf["num_attention_heads"], hf["hidden_size"]
    if (hf.get("head_dim") or hidden // heads) != hidden // heads:
        raise DataError(
            f"head_dim is {hf['head_dim']}", where=where, expected=f"hidden_size / heads, {hidden // heads}"
        )
    if hf["model_type"] == "llama":
        if hf.get("attention_bias", False) != hf.get("mlp_bias", False):
            raise DataError("attention_bias and mlp_bias differ", where=where, expected="both true or both false")
        kind = {
            "normalization": "RMSNorm",
            "norm_epsilon": hf["rms_norm_eps"],
            "bias": hf.get("mlp_bias", False),
        }
    else:
        kind = {
            "normalization": "LayerNorm",
            "norm_epsilon": hf["norm_epsilon"],
            "bias": hf.get("use_bias", True),
            "hidden_dropout": hf.get("residual_dropout", 0.0),
        }
    return kind | {
        "num_layers": hf["num_hidden_layers"],
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_query_groups": hf.get("num_key_value_heads") or heads,
        "ffn_hidden_size": hf["intermediate_size"],
        "seq_length": hf["max_position_embeddings"],
        "position_embedding": "rope",
        "rotary_base": rope.get("rope_theta") or hf.get("rope_theta") or 10000.0,
        "attention_dropout": hf.get("attention_dropout") or 0.0,
    }


def _need(model: GPTConfig, field: str, allowed: tuple[str, ...], beside: str) -> None:
    if getattr(model, field) not in allowed:
        _refuse(model, field, " or ".join(allowed), beside)


def _refuse(model: GPTConfig, field: str, allowed: str, beside: str) -> None:
    raise ConfigError(
        f"{getattr(model, field)!r} beside {beside} has no counterpart in transformers (there it is {allowed})",
        where=f"model.{field}",
        expected=SUPPORTED,
    )


def _refuse_hf(hf: Mapping[str, Any], where: Path | str, **plain: Any) -> None:
    for field, value in plain.items():
        if hf.get(field, value) != value:
            raise DataError(
                f"{field} is {hf[field]!r}, which our model does not have", where=where, expected=f"{value!r}"
            )
