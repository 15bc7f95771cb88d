"""Llama: rotary positions, RMSNorm and a gated MLP (Touvron et al. 2023, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds, our_activation
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rotary_decoder import our_fields, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule

_ACTIVATIONS = {"swiglu": "silu"}


class Llama:
    """See `HuggingFaceFamily`."""

    model_type = "llama"
    classes: Mapping[str, str] = {"causal": "LlamaForCausalLM", "classification": "LlamaForSequenceClassification"}
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {"last": {}}

    def head(self, model: GPTConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "causal"

    def obstacle(self, model: GPTConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [
            Need("position_embedding", ("rope",)),
            Need("normalization", ("RMSNorm",)),
            Need("activation", tuple(_ACTIVATIONS)),
        ]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, _ACTIVATIONS) | {
            "rms_norm_eps": model.norm_epsilon,
            "attention_bias": model.bias,
            "mlp_bias": model.bias,
            "head_dim": model.head_size,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        common = our_fields(fields, where)
        if fields.get("attention_bias", False) != fields.get("mlp_bias", False):
            raise DataError("attention_bias and mlp_bias differ", where=where, expected="both true or both false")
        return GPTConfig(
            **common,
            activation=our_activation(fields["hidden_act"], _ACTIVATIONS, where),  # type: ignore[arg-type]
            normalization="RMSNorm",
            norm_epsilon=fields["rms_norm_eps"],
            bias=fields.get("mlp_bias", False),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model, ("gate_proj", "up_proj"), "down_proj")
