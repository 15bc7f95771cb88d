"""Llama: rotary positions, RMSNorm and a gated MLP (Touvron et al. 2023, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_decoder import attention_bias, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Llama(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "llama"
    classes: Mapping[str, str] = {"causal": "LlamaForCausalLM", "classification": "LlamaForSequenceClassification"}
    characteristic = {"attention_bias": ("none", "all")}
    computes = frozenset({"attention_head_size"})

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "rms_norm_eps": model.norm_epsilon,
            "attention_bias": model.has_qkv_bias,
            "mlp_bias": model.bias,
            "head_dim": model.head_size,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        bias = fields.get("mlp_bias", False)
        return GPTConfig(
            **self.our_choices(fields, where),
            norm_epsilon=fields["rms_norm_eps"],
            bias=bias,
            attention_bias=attention_bias(fields, bias),  # type: ignore[arg-type]
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model)
