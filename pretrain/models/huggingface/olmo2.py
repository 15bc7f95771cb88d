"""OLMo 2: norms of what attention and MLP give, and of all queries and keys together (OLMo et al. 2024, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_decoder import attention_bias, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Olmo2(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "olmo2"
    classes: Mapping[str, str] = {"causal": "Olmo2ForCausalLM", "classification": "Olmo2ForSequenceClassification"}
    characteristic = {
        "norm_placement": ("after",),
        "qk_norm": ("projection",),
        "bias": (False,),
        "attention_bias": ("none", "all"),
    }

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "rms_norm_eps": model.norm_epsilon,
            "attention_bias": model.has_qkv_bias,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(
            **self.our_choices(fields, where),
            norm_epsilon=fields["rms_norm_eps"],
            norm_placement="after",
            qk_norm="projection",
            attention_bias=attention_bias(fields, bias=False),  # type: ignore[arg-type]
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        norms = {
            "post_self_attn_layernorm": "post_attention_layernorm",
            "post_mlp_layernorm": "post_feedforward_layernorm",
        }
        return rotary_rules(model, norms=norms)
