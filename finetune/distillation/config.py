"""What is learned from a teacher."""

from __future__ import annotations

from pydantic import Field, model_validator

from configs.paths import InputPath
from configs.section import Section


class DistillationConfig(Section):
    """A trained network that the new one learns from: its distributions over labels, and its hidden states."""

    teacher: InputPath
    """The teacher, which is not changed: what the same task wrote; of `distill` a run or an exported model."""
    temperature: float = Field(default=2.0, gt=0)
    """Divides the logits of both networks before their distributions are compared (Hinton et al. 2015)."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the teacher's distributions in the loss, times the square of `temperature`; the rest is of the right
    labels."""
    hidden_weight: float = Field(default=0.0, ge=0)
    """Weight of the squared distance between hidden states (TinyBERT, Jiao et al. 2020), added to that."""
    layers: list[tuple[int, int]] | None = None
    """Pairs of a layer of the new network and one of the teacher whose outputs are compared, from 1, 0 for the
    embeddings; null: all layers of the new network with layers at even distances of the teacher, the last ones
    together."""

    @model_validator(mode="after")
    def _learns_something(self) -> DistillationConfig:
        if not self.weight and not self.hidden_weight:
            raise ValueError("weight and hidden_weight are 0; expected something to be learned of the teacher")
        if self.layers is not None and not self.hidden_weight:
            raise ValueError(f"layers is {self.layers} and hidden_weight is 0; expected null, or a hidden_weight")
        return self
