"""The config that all optimizers share: the learning rate and its schedule, weight decay, clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from configs.durations import Duration, Units
from configs.kinds import Named


@dataclass(frozen=True)
class StateSpec:
    """One state that an optimizer keeps of every element of a parameter, and a checkpoint with it.

    Attributes:
        name: in `optimizer.state` and in the checkpoint, such as `exp_avg`.
    """

    name: str


class OptimizerConfig(Named):
    """An optimizer and its schedule. A subclass declares one kind, with the keys that only it has."""

    states: ClassVar[tuple[StateSpec, ...]] = ()
    """What the optimizer keeps beside the fp32 weights."""

    lr: float = Field(gt=0)
    """Peak learning rate."""
    min_lr: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the decay."""
    schedule: Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd"] = "cosine"
    """Shape after the warm-up; wsd is warmup-stable-decay."""
    warmup: Annotated[Duration, Units("steps", "samples", "tokens", zero=True)] = Duration(0, "steps")
    """Linear warm-up from 0, in steps, samples or tokens."""
    decay: Annotated[Duration, Units("steps", "samples", "tokens")] | None = None
    """Length of the decay: null means up to the end of the run (wsd: its last tenth)."""
    wsd_decay: Literal["linear", "sqrt"] = "linear"
    """Shape of wsd's decay: `sqrt` falls with the square root of the time (1-sqrt; Haegele et al. 2024, section 3)."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices and embeddings; norms and biases get none."""
    clip_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this global norm; 0: never."""

    @model_validator(mode="after")
    def _ordered(self) -> OptimizerConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self
