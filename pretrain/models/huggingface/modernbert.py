"""ModernBERT: rotary positions, GeGLU, no biases but the decoder's, most layers local (Warner et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.huggingface.config_fields import RoleIds, refuse_features
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rules import Rule, linear, parts_of, same, stacked_query_groups, vocabulary
from pretrain.models.transformer_config import EMBEDDING

GLOBAL, LOCAL = "full_attention", "sliding_attention"


class ModernBert:
    """See `HuggingFaceFamily`. Its `Wi` is `[activated; factor]`, as our `linear_fc1` is `[gate; up]`."""

    model_type = "modernbert"
    classes: Mapping[str, str] = {
        "masked": "ModernBertForMaskedLM",
        "classification": "ModernBertForSequenceClassification",
    }
    sees_both_sides = True
    poolings: Mapping[str, Mapping[str, Any]] = {
        "first": {"classifier_pooling": "cls"},
        "mean": {"classifier_pooling": "mean"},
    }

    def head(self, model: ModernEncoderConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "masked"

    def obstacle(self, model: ModernEncoderConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [Need("normalization", ("LayerNorm",)), Need("activation", ("geglu",))]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: ModernEncoderConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        global_base, local_base = model.rotary_bases
        layers = range(model.num_layers)
        return {
            "tie_word_embeddings": True,
            "hidden_size": model.hidden_size,
            "intermediate_size": model.ffn_size,
            "num_hidden_layers": model.num_layers,
            "num_attention_heads": model.num_attention_heads,
            "hidden_activation": "gelu",
            "classifier_activation": "gelu",
            "max_position_embeddings": model.seq_length,
            "norm_eps": model.norm_epsilon,
            "norm_bias": model.has_norm_bias,
            "attention_bias": model.bias,
            "mlp_bias": model.bias,
            "classifier_bias": model.bias,
            "decoder_bias": True,
            "embedding_dropout": model.hidden_dropout,
            "mlp_dropout": model.hidden_dropout,
            "attention_dropout": model.attention_dropout,
            "layer_types": [GLOBAL if model.window(layer) is None else LOCAL for layer in layers],
            "local_attention": model.local_window,
            "rope_parameters": {
                GLOBAL: {"rope_type": "default", "rope_theta": global_base},
                LOCAL: {"rope_type": "default", "rope_theta": local_base},
            },
            "cls_token_id": ids.classification,
            "sep_token_id": ids.separator,
            "mask_token_id": ids.mask,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> ModernEncoderConfig:
        """See `HuggingFaceFamily.from_config`."""
        bias = fields["attention_bias"]
        refuse_features(
            fields,
            where,
            hidden_activation="gelu",
            classifier_activation="gelu",
            norm_bias=False,
            decoder_bias=True,
            tie_word_embeddings=True,
            mlp_bias=bias,
            mlp_dropout=fields.get("embedding_dropout", 0.0),
            classifier_bias=bias,
        )
        bases = {kind: _rotary_base(fields, kind, where) for kind in (GLOBAL, LOCAL)}
        return ModernEncoderConfig(
            vocab_size=fields["vocab_size"],
            init_std=fields.get("initializer_range") or 0.02,
            num_layers=fields["num_hidden_layers"],
            hidden_size=fields["hidden_size"],
            num_attention_heads=fields["num_attention_heads"],
            ffn_hidden_size=fields["intermediate_size"],
            seq_length=fields["max_position_embeddings"],
            norm_epsilon=fields["norm_eps"],
            bias=bias,
            hidden_dropout=fields.get("embedding_dropout", 0.0),
            attention_dropout=fields.get("attention_dropout", 0.0),
            global_every=_global_every(fields["layer_types"], where),
            local_window=fields["local_attention"],
            global_rotary_base=bases[GLOBAL],
            local_rotary_base=bases[LOCAL],
        )

    def rules(self, model: ModernEncoderConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        norm_bias = model.has_norm_bias
        rules = [vocabulary(EMBEDDING, "model.embeddings.tok_embeddings.weight", model)]
        rules += linear("embedding.norm", "model.embeddings.norm", bias=norm_bias)
        for number in range(model.num_layers):
            ours, theirs = f"encoder.layers.{number}.", f"model.layers.{number}."
            if model.has_attention_norm(number):
                rules += linear(f"{ours}input_layernorm", f"{theirs}attn_norm", bias=norm_bias)
            for part in parts_of(model.bias):
                qkv = f"{ours}self_attention.linear_qkv.{part}", (f"{theirs}attn.Wqkv.{part}",)
                rules.append(Rule(*qkv, *stacked_query_groups(model)))
                rules.append(same(f"{ours}self_attention.linear_proj.{part}", f"{theirs}attn.Wo.{part}"))
                rules.append(same(f"{ours}mlp.linear_fc1.{part}", f"{theirs}mlp.Wi.{part}"))
                rules.append(same(f"{ours}mlp.linear_fc2.{part}", f"{theirs}mlp.Wo.{part}"))
            rules += linear(f"{ours}pre_mlp_layernorm", f"{theirs}mlp_norm", bias=norm_bias)
        rules += linear("encoder.final_layernorm", "model.final_norm", bias=norm_bias)
        rules += linear("lm_head.dense", "head.dense", bias=model.bias)
        rules += linear("lm_head.layer_norm", "head.norm", bias=norm_bias)
        return [*rules, vocabulary("output_layer.bias", "decoder.bias", model)]


def _rotary_base(fields: Mapping[str, Any], kind: str, where: Path | str) -> float:
    rope = fields["rope_parameters"][kind]
    if rope.get("rope_type", "default") != "default":
        raise DataError(f"rope_parameters.{kind} is {rope}", where=where, expected="rope_type 'default'")
    return float(rope["rope_theta"])


def _global_every(layer_types: list[str], where: Path | str) -> int:
    """The first layer and every so many after it see the whole document."""
    every = next((layer for layer in range(1, len(layer_types)) if layer_types[layer] == GLOBAL), len(layer_types))
    if any((kind == GLOBAL) != (layer % every == 0) for layer, kind in enumerate(layer_types)):
        raise DataError(f"layer_types is {layer_types}", where=where, expected=f"{GLOBAL} at 0, n, 2n, ...")
    return every
