"""What the transformers decoders with rotary positions share: their config fields and the names of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.gpt.config import EMBEDDING, OUTPUT, GPTConfig
from pretrain.models.huggingface.config_fields import refuse_features
from pretrain.models.huggingface.rules import Rule, blocks, linear, parts_of, query_groups, same, vocabulary


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
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rotary_base},
    }


def our_fields(fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """Fields of our config that a rotary decoder's says.

    Raises:
        DataError: it has features that ours does not have.
    """
    refuse_features(fields, where, sliding_window=None, pretraining_tp=1)
    rope = fields.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise DataError(f"rope_parameters is {rope}", where=where, expected="rope_type 'default' on the whole head")
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    if (fields.get("head_dim") or hidden // heads) != hidden // heads:
        raise DataError(
            f"head_dim is {fields['head_dim']}", where=where, expected=f"hidden_size / heads, {hidden // heads}"
        )
    return {
        "vocab_size": fields["vocab_size"],
        "tie_embeddings": fields.get("tie_word_embeddings", True),
        "init_std": fields.get("initializer_range") or 0.02,
        "num_layers": fields["num_hidden_layers"],
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_query_groups": fields.get("num_key_value_heads") or heads,
        "ffn_hidden_size": fields["intermediate_size"],
        "seq_length": fields["max_position_embeddings"],
        "position_embedding": "rope",
        "rotary_base": rope.get("rope_theta") or fields.get("rope_theta") or 10000.0,
        "attention_dropout": fields.get("attention_dropout") or 0.0,
    }


def rotary_rules(model: GPTConfig, fc1: tuple[str, ...], fc2: str) -> list[Rule]:
    """How the tensors map.

    Args:
        model: ours.
        fc1: names of the MLP's first matrices, the parts of our `linear_fc1`.
        fc2: name of its second.
    """
    norm_bias = model.normalization == "LayerNorm"
    rules = [vocabulary(EMBEDDING, "model.embed_tokens.weight", model)]
    for number in range(model.num_layers):
        ours, theirs = f"decoder.layers.{number}.", f"model.layers.{number}."
        rules += linear(f"{ours}input_layernorm", f"{theirs}input_layernorm", bias=norm_bias)
        rules += linear(f"{ours}pre_mlp_layernorm", f"{theirs}post_attention_layernorm", bias=norm_bias)
        for part in parts_of(model.bias):
            qkv = tuple(f"{theirs}self_attn.{x}_proj.{part}" for x in "qkv")
            rules.append(Rule(f"{ours}self_attention.linear_qkv.{part}", qkv, *query_groups(model)))
            rules.append(same(f"{ours}self_attention.linear_proj.{part}", f"{theirs}self_attn.o_proj.{part}"))
            inner = tuple(f"{theirs}mlp.{name}.{part}" for name in fc1)
            rules.append(Rule(f"{ours}mlp.linear_fc1.{part}", inner, *blocks(len(inner))))
            rules.append(same(f"{ours}mlp.linear_fc2.{part}", f"{theirs}mlp.{fc2}.{part}"))
    rules += linear("decoder.final_layernorm", "model.norm", bias=norm_bias)
    if not model.tie_embeddings:
        rules.append(vocabulary(OUTPUT, "lm_head.weight", model))
    return rules
