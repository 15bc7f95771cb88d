"""What the transformers decoders with rotary positions share: their config fields and the names of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import refuse_features
from pretrain.models.huggingface.rotary_config import our_scaling, our_windows, rope_parameters
from pretrain.models.huggingface.rules import Rule, blocks, linear, parts_of, query_groups, same, vocabulary
from pretrain.models.transformer_config import EMBEDDING, OUTPUT


def rotary_fields(model: GPTConfig, activations: Mapping[str, str]) -> dict[str, Any]:
    """Fields of the config.

    Args:
        model: ours.
        activations: transformers' names by ours.
    """
    return {
        "tie_word_embeddings": model.tie_embeddings,
        "use_cache": True,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.query_groups,
        "hidden_act": activations[model.activation],
        "max_position_embeddings": model.seq_length,
        "attention_dropout": model.attention_dropout,
        "rope_parameters": rope_parameters(model),
    }


def our_fields(
    fields: Mapping[str, Any], where: Path | str, *, has_window: bool = False, rotates_parts: bool = False
) -> dict[str, Any]:
    """Fields of our config that a rotary decoder's says.

    Args:
        fields: theirs.
        where: names the source in errors.
        has_window: whether their class has local layers.
        rotates_parts: whether it may rotate a part of each head.

    Raises:
        DataError: it has features that ours does not have.
    """
    refuse_features(fields, where, pretraining_tp=1)
    if fields.get("use_bidirectional_attention"):
        raise DataError("use_bidirectional_attention is true", where=where, expected="false: ours sees the past only")
    if not has_window:
        refuse_features(fields, where, sliding_window=None)
    rope = fields.get("rope_parameters") or {}
    part = float(rope.get("partial_rotary_factor", 1.0))
    if part != 1.0 and not rotates_parts:
        raise DataError(f"rope_parameters is {rope}", where=where, expected="partial_rotary_factor 1")
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    usual_size = hidden // heads
    size = fields.get("head_dim") or usual_size
    return {
        "vocab_size": fields["vocab_size"],
        "tie_embeddings": fields.get("tie_word_embeddings", True),
        "init_std": fields.get("initializer_range") or 0.02,
        "num_layers": fields["num_hidden_layers"],
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_query_groups": fields.get("num_key_value_heads") or heads,
        "attention_head_size": None if size == usual_size and hidden % heads == 0 else size,
        "ffn_hidden_size": fields["intermediate_size"],
        "seq_length": fields["max_position_embeddings"],
        "position_embedding": "rope",
        "rotary_base": rope.get("rope_theta") or fields.get("rope_theta") or 10000.0,
        "rotary_percent": part,
        "rotary_scaling": our_scaling(rope, where),
        "attention_dropout": fields.get("attention_dropout") or 0.0,
        **(our_windows(fields, where) if has_window else {}),
    }


def attention_bias(fields: Mapping[str, Any], bias: bool) -> str | None:
    """Our `attention_bias` where theirs is the field of this name; `bias` is ours."""
    given = bool(fields.get("attention_bias", False))
    return None if given == bias else "all" if given else "none"


LLAMA_NORMS = {"input_layernorm": "input_layernorm", "pre_mlp_layernorm": "post_attention_layernorm"}


def rotary_rules(
    model: GPTConfig,
    fc1: tuple[str, ...] = ("gate_proj", "up_proj"),
    fc2: str = "down_proj",
    *,
    norms: Mapping[str, str] = LLAMA_NORMS,
    projection: str = "o_proj",
    final_norm: str = "norm",
) -> list[Rule]:
    """How the tensors map.

    Args:
        model: ours.
        fc1: names of the MLP's first matrices, the parts of our `linear_fc1`.
        fc2: name of its second.
        norms: their names of a layer's norms by ours.
        projection: name of the matrix after the attention.
        final_norm: of the norm after all layers.
    """
    norm_bias = model.normalization == "LayerNorm"
    rules = [vocabulary(EMBEDDING, "model.embed_tokens.weight", model)]
    for number in range(model.num_layers):
        ours, theirs = f"decoder.layers.{number}.", f"model.layers.{number}."
        for norm, their_norm in norms.items():
            rules += linear(f"{ours}{norm}", f"{theirs}{their_norm}", bias=norm_bias)
        for part in parts_of(model.has_qkv_bias):
            qkv = tuple(f"{theirs}self_attn.{x}_proj.{part}" for x in "qkv")
            rules.append(Rule(f"{ours}self_attention.linear_qkv.{part}", qkv, *query_groups(model)))
        for x in "qk" if model.qk_norm is not None else "":
            rules.append(same(f"{ours}self_attention.{x}_layernorm.weight", f"{theirs}self_attn.{x}_norm.weight"))
        attention = f"{ours}self_attention.linear_proj", f"{theirs}self_attn.{projection}"
        rules += linear(*attention, bias=model.has_projection_bias)
        for part in parts_of(model.bias):
            inner = tuple(f"{theirs}mlp.{name}.{part}" for name in fc1)
            rules.append(Rule(f"{ours}mlp.linear_fc1.{part}", inner, *blocks(len(inner))))
            rules.append(same(f"{ours}mlp.linear_fc2.{part}", f"{theirs}mlp.{fc2}.{part}"))
    rules += linear("decoder.final_layernorm", f"model.{final_norm}", bias=norm_bias)
    if not model.tie_embeddings:
        rules.append(vocabulary(OUTPUT, "lm_head.weight", model))
    if model.output_bias:
        rules.append(vocabulary("output_layer.bias", "lm_head.bias", model))
    return rules
