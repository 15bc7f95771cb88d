"""GPT-2: learned positions, LayerNorm, matrices kept transposed and always with biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds, our_activation, refuse_features
from pretrain.models.huggingface.decoder_family import usual_needs
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rules import (
    Rule,
    first,
    linear,
    one,
    same,
    stacked_query_groups,
    transposed,
    vocabulary,
)
from pretrain.models.transformer_config import EMBEDDING, OUTPUT

if TYPE_CHECKING:
    from pretrain.models.huggingface.rules import Join, Split

_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}


class GPT2:
    """See `HuggingFaceFamily`."""

    model_type = "gpt2"
    classes: Mapping[str, str] = {"causal": "GPT2LMHeadModel", "classification": "GPT2ForSequenceClassification"}
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {"last": {}}

    def head(self, model: GPTConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "causal"

    def obstacle(self, model: GPTConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [
            Need("position_embedding", ("learned",)),
            Need("normalization", ("LayerNorm",)),
            Need("activation", tuple(_ACTIVATIONS)),
            Need("num_query_groups", (model.num_attention_heads,), "as many as heads"),
            *usual_needs(model, set()),
        ]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return {
            "tie_word_embeddings": model.tie_embeddings,
            "use_cache": True,
            "n_positions": model.seq_length,
            "n_embd": model.hidden_size,
            "n_layer": model.num_layers,
            "n_head": model.num_attention_heads,
            "n_inner": model.ffn_size,
            "activation_function": _ACTIVATIONS[model.activation],
            "resid_pdrop": model.hidden_dropout,
            "embd_pdrop": model.hidden_dropout,
            "attn_pdrop": model.attention_dropout,
            "layer_norm_epsilon": model.norm_epsilon,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        refuse_features(
            fields, where, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False
        )
        return GPTConfig(
            vocab_size=fields["vocab_size"],
            tie_embeddings=fields.get("tie_word_embeddings", True),
            init_std=fields.get("initializer_range") or 0.02,
            num_layers=fields["n_layer"],
            hidden_size=fields["n_embd"],
            num_attention_heads=fields["n_head"],
            ffn_hidden_size=fields.get("n_inner") or 4 * fields["n_embd"],
            seq_length=fields["n_positions"],
            position_embedding="learned",
            normalization="LayerNorm",
            norm_epsilon=fields["layer_norm_epsilon"],
            activation=our_activation(fields["activation_function"], _ACTIVATIONS, where),  # type: ignore[arg-type]
            bias=True,
            hidden_dropout=fields.get("resid_pdrop", 0.0),
            attention_dropout=fields.get("attn_pdrop", 0.0),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        rules = [
            vocabulary(EMBEDDING, "transformer.wte.weight", model),
            same("embedding.position_embeddings.weight", "transformer.wpe.weight"),
        ]
        for number in range(model.num_layers):
            ours, theirs = f"decoder.layers.{number}.", f"transformer.h.{number}."
            rules += linear(f"{ours}input_layernorm", f"{theirs}ln_1", bias=True)
            rules += _matrix(f"{ours}self_attention.linear_qkv", f"{theirs}attn.c_attn", *stacked_query_groups(model))
            rules += _matrix(f"{ours}self_attention.linear_proj", f"{theirs}attn.c_proj")
            rules += linear(f"{ours}pre_mlp_layernorm", f"{theirs}ln_2", bias=True)
            rules += _matrix(f"{ours}mlp.linear_fc1", f"{theirs}mlp.c_fc")
            rules += _matrix(f"{ours}mlp.linear_fc2", f"{theirs}mlp.c_proj")
        rules += linear("decoder.final_layernorm", "transformer.ln_f", bias=True)
        if not model.tie_embeddings:
            rules.append(vocabulary(OUTPUT, "lm_head.weight", model))
        return rules


def _matrix(ours: str, theirs: str, split: Split = one, join: Join = first) -> list[Rule]:
    weight = f"{ours}.weight"
    return [
        Rule(weight, (f"{theirs}.weight",), *transposed(split, join)),
        Rule(f"{ours}.bias", (f"{theirs}.bias",), split, join, zeros_like=weight),
    ]
