"""What the transformers decoders with rotary positions share: heads, obstacles, choices that few of them compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import our_activation
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rotary_decoder import our_fields

USUAL: Mapping[str, Any] = {
    "norm_placement": "pre",
    "residual": "sequential",
    "qk_norm": None,
    "norm_plus_one": False,
    "embedding_scale": False,
    "output_bias": False,
    "sliding_window": None,
    "global_every": None,
    "local_rotary_base": None,
    "rotary_percent": 1.0,
    "attention_softcap": None,
    "logit_softcap": None,
}
"""GPT's choices with what they are in most models."""


class RotaryDecoder:
    """Base of the families of decoders with rotary positions; see `HuggingFaceFamily`."""

    model_type: str
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {"last": {}}

    normalization: str = "RMSNorm"
    """Kind of the norms."""
    activations: Mapping[str, str] = {"swiglu": "silu"}
    """Transformers' activations by ours."""
    characteristic: Mapping[str, tuple[Any, ...]] = {}
    """Keys of ours that tell the class from others, with the values that it computes."""
    computes: frozenset[str] = frozenset()
    """Keys of ours that it computes whatever they are, though most classes do not."""

    def head(self, model: GPTConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "causal"

    def obstacle(self, model: GPTConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        return first_obstacle(model, self.model_type, self.needs(model))

    def needs(self, model: GPTConfig) -> list[Need]:
        """What the class needs of `model`, what tells it from others first."""
        return [
            Need("position_embedding", ("rope",)),
            Need("normalization", (self.normalization,)),
            Need("activation", tuple(self.activations)),
            *(Need(key, values) for key, values in self.characteristic.items()),
            *usual_needs(model, self.computes | set(self.characteristic)),
        ]

    def our_choices(self, fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
        """Fields of our config that the config of any such class says.

        Raises:
            DataError: it has features that ours does not have.
        """
        scales = "rotary_percent" in self.computes
        common = our_fields(fields, where, has_window="sliding_window" in self.computes, rotates_parts=scales)
        # Gemma's older configs have both, and null in one.
        name = fields.get("hidden_activation") or fields["hidden_act"]
        activation = our_activation(name, self.activations, where)
        return common | {"normalization": self.normalization, "activation": activation}


def usual_needs(model: GPTConfig, computes: frozenset[str] | set[str]) -> list[Need]:
    """That every choice is as in most models, but for the keys in `computes`.

    A class has to say which of them it computes, so that a choice that is younger than its mapping is an obstacle.
    """
    needs = [Need(key, (value,), is_usual=True) for key, value in USUAL.items() if key not in computes]
    if "attention_bias" not in computes:
        same = "all" if model.bias else "none"
        needs.append(Need("attention_bias", (same,), f"bias is {str(model.bias).lower()}", is_usual=True))
    if "attention_head_size" not in computes:
        size = model.hidden_size // model.num_attention_heads
        needs.append(Need("attention_head_size", (size,), "hidden_size / num_attention_heads", is_usual=True))
    if "query_scale" not in computes:
        needs.append(Need("query_scale", (model.head_size,), "the head size", is_usual=True))
    return needs
