"""Starcoder2: rotary positions and LayerNorm around a plain MLP (Lozhkov et al. 2024, section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_decoder import rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Starcoder2(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "starcoder2"
    classes: Mapping[str, str] = {
        "causal": "Starcoder2ForCausalLM",
        "classification": "Starcoder2ForSequenceClassification",
    }
    normalization = "LayerNorm"
    activations = {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}
    computes = frozenset({"sliding_window"})

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "norm_epsilon": model.norm_epsilon,
            "use_bias": model.bias,
            "residual_dropout": model.hidden_dropout,
            "embedding_dropout": model.hidden_dropout,
            "sliding_window": model.sliding_window,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(
            **self.our_choices(fields, where),
            norm_epsilon=fields["norm_epsilon"],
            bias=fields.get("use_bias", True),
            hidden_dropout=fields.get("residual_dropout", 0.0),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model, ("c_fc",), "c_proj")
