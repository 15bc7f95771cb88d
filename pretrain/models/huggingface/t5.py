"""T5, as first published and as version 1.1 (Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.encoder_decoder.t5_config import T5Config
from pretrain.models.huggingface.config_fields import RoleIds, refuse_features
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rules import Rule, blocks, keys_and_values, query_groups, same, vocabulary
from pretrain.models.transformer_config import EMBEDDING, OUTPUT

_ACTIVATIONS = {"relu": "relu", "geglu_tanh": "gated-gelu", "swiglu": "gated-silu"}
"""transformers' names by ours. What it calls gated-gelu is the approximation by tanh."""
_SAME = {"gated-gelu_new": "gated-gelu", "gated-gelu_pytorch_tanh": "gated-gelu", "gated-swish": "gated-silu"}
_LENGTH = 512
"""Tokens of a model whose config says no length, as transformers' does: any is read."""


class T5:
    """See `HuggingFaceFamily`.

    transformers 5 says `tie_word_embeddings` of every T5, and keeps `scale_decoder_outputs` for what older versions
    read out of it: that the output layer is the embedding, and what it reads is scaled.
    """

    model_type = "t5"
    classes: Mapping[str, str] = {"conditional": "T5ForConditionalGeneration"}
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {}

    def head(self, model: T5Config) -> str:
        """See `HuggingFaceFamily.head`."""
        return "conditional"

    def obstacle(self, model: T5Config) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [
            Need("normalization", ("RMSNorm",)),
            Need("bias", (False,)),
            Need("activation", tuple(_ACTIVATIONS)),
        ]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: T5Config, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return {
            "tie_word_embeddings": model.tie_embeddings,
            "d_model": model.hidden_size,
            "d_kv": model.head_size,
            "d_ff": model.ffn_size,
            "num_layers": model.num_layers,
            "num_decoder_layers": model.decoder_layers,
            "num_heads": model.num_attention_heads,
            "feed_forward_proj": _ACTIVATIONS[model.activation],
            "relative_attention_num_buckets": model.relative_buckets,
            "relative_attention_max_distance": model.relative_max_distance,
            "layer_norm_epsilon": model.norm_epsilon,
            "dropout_rate": model.hidden_dropout,
            "initializer_factor": model.init_std,
            "n_positions": model.seq_length,
            "decoder_start_token_id": ids.pad,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> T5Config:
        """See `HuggingFaceFamily.from_config`."""
        refuse_features(fields, where, is_encoder_decoder=True)
        activation = _SAME.get(fields["feed_forward_proj"], fields["feed_forward_proj"])
        ours = next((name for name, theirs in _ACTIVATIONS.items() if theirs == activation), None)
        if ours is None:
            expected = " or ".join(_ACTIVATIONS.values())
            raise DataError(f"feed_forward_proj is {activation!r}", where=where, expected=expected)
        dropout = fields.get("dropout_rate", 0.0)
        return T5Config(
            vocab_size=fields["vocab_size"],
            init_std=fields.get("initializer_factor") or 1.0,
            num_layers=fields["num_layers"],
            num_decoder_layers=fields.get("num_decoder_layers") or fields["num_layers"],
            hidden_size=fields["d_model"],
            num_attention_heads=fields["num_heads"],
            attention_head_size=fields["d_kv"],
            ffn_hidden_size=fields["d_ff"],
            seq_length=fields.get("n_positions") or _LENGTH,
            norm_epsilon=fields["layer_norm_epsilon"],
            activation=ours,  # type: ignore[arg-type]
            tie_embeddings=fields.get("scale_decoder_outputs", fields.get("tie_word_embeddings", True)),
            relative_buckets=fields["relative_attention_num_buckets"],
            relative_max_distance=fields["relative_attention_max_distance"],
            hidden_dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=dropout,
        )

    def rules(self, model: T5Config, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        rules = [vocabulary(EMBEDDING, "shared.weight", model)]
        for stack, layers in (("encoder", model.num_layers), ("decoder", model.decoder_layers)):
            table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            rules.append(same(f"{stack}_relative_bias.table.weight", table))
            for number in range(layers):
                rules += _layer_rules(f"{stack}.layers.{number}.", f"{stack}.block.{number}.layer.", stack, model)
            rules.append(same(f"{stack}.final_layernorm.weight", f"{stack}.final_layer_norm.weight"))
        if not model.tie_embeddings:
            rules.append(vocabulary(OUTPUT, "lm_head.weight", model))
        return rules


def _layer_rules(ours: str, theirs: str, stack: str, model: T5Config) -> list[Rule]:
    attention = f"{theirs}0.SelfAttention."
    qkv = tuple(f"{attention}{name}.weight" for name in "qkv")
    rules = [
        same(f"{ours}input_layernorm.weight", f"{theirs}0.layer_norm.weight"),
        Rule(f"{ours}self_attention.linear_qkv.weight", qkv, *query_groups(model)),
        same(f"{ours}self_attention.linear_proj.weight", f"{attention}o.weight"),
    ]
    if stack == "decoder":
        attention = f"{theirs}1.EncDecAttention."
        kv = tuple(f"{attention}{name}.weight" for name in "kv")
        rules += [
            same(f"{ours}pre_cross_attn_layernorm.weight", f"{theirs}1.layer_norm.weight"),
            same(f"{ours}cross_attention.linear_q.weight", f"{attention}q.weight"),
            Rule(f"{ours}cross_attention.linear_kv.weight", kv, *keys_and_values(model)),
            same(f"{ours}cross_attention.linear_proj.weight", f"{attention}o.weight"),
        ]
    block = f"{theirs}{2 if stack == 'decoder' else 1}."
    rules.append(same(f"{ours}pre_mlp_layernorm.weight", f"{block}layer_norm.weight"))
    mlp, fc1 = f"{block}DenseReluDense.", f"{ours}mlp.linear_fc1.weight"
    if model.is_gated:
        rules.append(Rule(fc1, (f"{mlp}wi_0.weight", f"{mlp}wi_1.weight"), *blocks(2)))
    else:
        rules.append(same(fc1, f"{mlp}wi.weight"))
    return [*rules, same(f"{ours}mlp.linear_fc2.weight", f"{mlp}wo.weight")]
