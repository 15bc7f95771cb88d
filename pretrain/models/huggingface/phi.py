"""Phi: attention and MLP side by side behind one norm, a part of each head rotated, a bias everywhere (Li et al. 2023,
section 2.3, and the models' published configs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds, refuse_features
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.rotary_decoder import rotary_fields, rotary_rules
from pretrain.models.huggingface.rules import Rule


class Phi(RotaryDecoder):
    """See `HuggingFaceFamily`."""

    model_type = "phi"
    classes: Mapping[str, str] = {"causal": "PhiForCausalLM", "classification": "PhiForSequenceClassification"}
    normalization = "LayerNorm"
    activations = {"gelu_tanh": "gelu_new", "gelu": "gelu"}
    characteristic = {"residual": ("parallel_one_norm",), "bias": (True,), "output_bias": (True,)}
    computes = frozenset({"rotary_percent"})

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        fields = rotary_fields(model, self.activations)
        # What is not said is a half there.
        fields["rope_parameters"]["partial_rotary_factor"] = model.rotary_percent
        return fields | {
            "layer_norm_eps": model.norm_epsilon,
            "resid_pdrop": model.hidden_dropout,
            "embd_pdrop": model.hidden_dropout,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        refuse_features(fields, where, qk_layernorm=False)
        return GPTConfig(
            **self.our_choices(fields, where),
            norm_epsilon=fields["layer_norm_eps"],
            residual="parallel_one_norm",
            bias=True,
            output_bias=True,
            hidden_dropout=fields.get("resid_pdrop", 0.0),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        norms = {"input_layernorm": "input_layernorm"}
        return rotary_rules(model, ("fc1",), "fc2", norms=norms, projection="dense", final_norm="final_layernorm")
