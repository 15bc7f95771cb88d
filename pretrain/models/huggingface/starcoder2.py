"""Starcoder2: rotary positions and LayerNorm around a plain MLP (Lozhkov et al. 2024, section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds, our_activation
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rotary_decoder import our_fields, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule

_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}


class Starcoder2:
    """See `HuggingFaceFamily`."""

    model_type = "starcoder2"
    classes: Mapping[str, str] = {
        "causal": "Starcoder2ForCausalLM",
        "classification": "Starcoder2ForSequenceClassification",
    }
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {"last": {}}

    def head(self, model: GPTConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "causal"

    def obstacle(self, model: GPTConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [
            Need("position_embedding", ("rope",)),
            Need("normalization", ("LayerNorm",)),
            Need("activation", tuple(_ACTIVATIONS)),
        ]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, _ACTIVATIONS) | {
            "norm_epsilon": model.norm_epsilon,
            "use_bias": model.bias,
            "residual_dropout": model.hidden_dropout,
            "embedding_dropout": model.hidden_dropout,
            "sliding_window": None,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(
            **our_fields(fields, where),
            activation=our_activation(fields["hidden_act"], _ACTIVATIONS, where),  # type: ignore[arg-type]
            normalization="LayerNorm",
            norm_epsilon=fields["norm_epsilon"],
            bias=fields.get("use_bias", True),
            hidden_dropout=fields.get("residual_dropout", 0.0),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model, ("c_fc",), "c_proj")
