"""Gemma: GeGLU, norms that multiply by 1 + their weight, scaled embeddings (Mesnard et al. 2024, section 2); Gemma 2:
norms on both sides, soft caps, every other layer local (Riviere et al. 2024, section 2); Gemma 3: norms of queries and
keys in place of the caps, five of six layers local with a base of their own (Kamath et al. 2025, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds, refuse_features
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.obstacles import Need
from pretrain.models.huggingface.rotary_config import GLOBAL, LOCAL, layer_types, rope_parameters
from pretrain.models.huggingface.rotary_decoder import LLAMA_NORMS, attention_bias, rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule

_COMMON: dict[str, tuple[Any, ...]] = {
    "norm_plus_one": (True,),
    "embedding_scale": (True,),
    "bias": (False,),
    "attention_bias": ("none", "all"),
}


class Gemma(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "gemma"
    classes: Mapping[str, str] = {"causal": "GemmaForCausalLM", "classification": "GemmaForSequenceClassification"}
    activations = {"geglu_tanh": "gelu_pytorch_tanh"}
    characteristic: Mapping[str, tuple[Any, ...]] = _COMMON
    computes = frozenset({"attention_head_size"})
    norms: Mapping[str, str] = LLAMA_NORMS
    """Their names of a layer's norms by ours."""

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return rotary_fields(model, self.activations) | {
            "rms_norm_eps": model.norm_epsilon,
            "attention_bias": model.has_qkv_bias,
            "head_dim": model.head_size,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        choices = self.our_choices(fields, where) | self.more_choices(fields, where)
        return GPTConfig(
            **choices,
            norm_epsilon=fields["rms_norm_eps"],
            norm_plus_one=True,
            embedding_scale=True,
            attention_bias=attention_bias(fields, bias=False),  # type: ignore[arg-type]
        )

    def more_choices(self, fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
        """What tells this Gemma from the others, in our config."""
        return {}

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        return rotary_rules(model, norms=self.norms)


class Gemma2(Gemma):
    """See `HuggingFaceFamily`."""

    model_type = "gemma2"
    classes: Mapping[str, str] = {"causal": "Gemma2ForCausalLM", "classification": "Gemma2ForSequenceClassification"}
    characteristic: Mapping[str, tuple[Any, ...]] = {**_COMMON, "norm_placement": ("both",)}
    computes = Gemma.computes | {
        "sliding_window",
        "global_every",
        "query_scale",
        "attention_softcap",
        "logit_softcap",
    }
    norms = {
        "input_layernorm": "input_layernorm",
        "post_self_attn_layernorm": "post_attention_layernorm",
        "pre_mlp_layernorm": "pre_feedforward_layernorm",
        "post_mlp_layernorm": "post_feedforward_layernorm",
    }

    def needs(self, model: GPTConfig) -> list[Need]:
        """See the base class."""
        heads = model.num_attention_heads
        width = Need("hidden_size", (-(-model.hidden_size // heads) * heads,), "a multiple of num_attention_heads")
        return [*super().needs(model), width]

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        fields = super().to_config(model, ids)
        fields["hidden_activation"] = fields.pop("hidden_act")
        return fields | {
            "query_pre_attn_scalar": model.query_scale or model.head_size,
            "attn_logit_softcapping": model.attention_softcap,
            "final_logit_softcapping": model.logit_softcap,
            # The class asks for a window also where no layer has one.
            "sliding_window": model.sliding_window or model.seq_length,
            "layer_types": layer_types(model),
        }

    def more_choices(self, fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
        """See the base class."""
        size = fields.get("head_dim") or fields["hidden_size"] // fields["num_attention_heads"]
        scale = fields.get("query_pre_attn_scalar", size)
        if scale != int(scale):
            raise DataError(f"query_pre_attn_scalar is {scale}", where=where, expected="a whole number")
        return {
            "norm_placement": "both",
            "query_scale": None if scale == size else int(scale),
            "attention_softcap": fields.get("attn_logit_softcapping"),
            "logit_softcap": fields.get("final_logit_softcapping"),
        }


class Gemma3Text(Gemma2):
    """See `HuggingFaceFamily`. It names a cap of the attention's scores in its config and does not compute it."""

    model_type = "gemma3_text"
    classes: Mapping[str, str] = {
        "causal": "Gemma3ForCausalLM",
        "classification": "Gemma3TextForSequenceClassification",
    }
    characteristic: Mapping[str, tuple[Any, ...]] = {**Gemma2.characteristic, "qk_norm": ("head",)}
    computes = (Gemma2.computes | {"local_rotary_base"}) - {"attention_softcap"}

    def needs(self, model: GPTConfig) -> list[Need]:
        """See the base class."""
        needs = super().needs(model)
        if model.sliding_window is not None and model.local_rotary_base is None:
            # transformers 4.57 has one scaling, of global layers.
            needs.append(Need("rotary_scaling", (None,), "local layers are never scaled"))
        return needs

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        fields = super().to_config(model, ids)
        local = len(model.rotations) - 1
        fields["rope_parameters"] = {GLOBAL: rope_parameters(model), LOCAL: rope_parameters(model, local)}
        return fields

    def our_choices(self, fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
        """See the base class."""
        rope = fields["rope_parameters"]
        choices = super().our_choices({**fields, "rope_parameters": rope[GLOBAL]}, where)
        near, far = rope[LOCAL], rope[GLOBAL]
        if choices["sliding_window"] is None or near == far:
            return choices
        if near.get("rope_type", "default") != "default":
            raise DataError(f"rope_parameters.{LOCAL} is {near}", where=where, expected="rope_type default")
        if choices["global_every"] is None:
            return choices | {"rotary_base": near["rope_theta"], "rotary_scaling": None}
        return choices | {"local_rotary_base": near["rope_theta"]}

    def more_choices(self, fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
        """See the base class."""
        refuse_features(fields, where, attn_logit_softcapping=None)
        return super().more_choices(fields, where) | {"qk_norm": "head"}
