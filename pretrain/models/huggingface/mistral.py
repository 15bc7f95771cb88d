"""Mistral: Llama whose layers each see a window (Jiang et al. 2023, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_decoder import rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Mistral(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "mistral"
    classes: Mapping[str, str] = {"causal": "MistralForCausalLM", "classification": "MistralForSequenceClassification"}
    characteristic = {"bias": (False,), "attention_bias": ("none",)}
    computes = frozenset({"attention_head_size", "sliding_window"})

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "rms_norm_eps": model.norm_epsilon,
            "head_dim": model.head_size,
            "sliding_window": model.sliding_window,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(**self.our_choices(fields, where), norm_epsilon=fields["rms_norm_eps"])

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model)
