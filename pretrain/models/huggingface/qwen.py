"""Qwen2: Llama with biases of queries, keys and values (Yang et al. 2024, section 2.2.1); Qwen3: with norms in place of
them (Yang et al. 2025, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_config import layer_types
from pretrain.models.huggingface.rotary_decoder import attention_bias, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Qwen2(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "qwen2"
    classes: Mapping[str, str] = {"causal": "Qwen2ForCausalLM", "classification": "Qwen2ForSequenceClassification"}
    characteristic: Mapping[str, tuple[Any, ...]] = {"bias": (False,), "attention_bias": ("qkv",)}
    computes = frozenset({"sliding_window", "global_every"})

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "rms_norm_eps": model.norm_epsilon,
            "use_sliding_window": model.sliding_window is not None,
            "sliding_window": model.sliding_window,
            "layer_types": layer_types(model),
            # Readers that know no `layer_types` make every layer from this one on local.
            "max_window_layers": 0 if model.sliding_window is not None else model.num_layers,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(
            **self.our_choices(fields, where), norm_epsilon=fields["rms_norm_eps"], **self.more_choices(fields)
        )

    def more_choices(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What tells one Qwen from the other, in our config."""
        return {"attention_bias": "qkv"}

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model)


class Qwen3(Qwen2):
    """See `HuggingFaceFamily`."""

    model_type = "qwen3"
    classes: Mapping[str, str] = {"causal": "Qwen3ForCausalLM", "classification": "Qwen3ForSequenceClassification"}
    characteristic: Mapping[str, tuple[Any, ...]] = {
        "qk_norm": ("head",),
        "bias": (False,),
        "attention_bias": ("none", "all"),
    }
    computes = Qwen2.computes | {"attention_head_size"}

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return super().to_config(model, ids) | {"head_dim": model.head_size, "attention_bias": model.has_qkv_bias}

    def more_choices(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """See the base class."""
        return {"qk_norm": "head", "attention_bias": attention_bias(fields, bias=False)}
