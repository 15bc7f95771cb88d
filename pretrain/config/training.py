"""How long a run is, how much it reads at a time, how precisely it computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.durations import Duration, Units
from configs.section import Section


class BatchRamp(Section):
    """A batch size that grows linearly from `start` to `training.global_batch_size`."""

    start: int = Field(gt=0, examples=[32])
    """Samples per step at the beginning."""
    increment: int = Field(gt=0, examples=[32])
    """Samples per step that each stage of the ramp adds."""
    samples: int = Field(gt=0, examples=[100000])
    """Samples over which the ramp stretches."""


class TrainingConfig(Section):
    """How long, how much at a time, how precise."""

    duration: Annotated[Duration, Units("steps", "samples", "tokens")]
    """Length of the run, such as `1000 steps` or `2B tokens`; for a limit in time there is `session_limit`."""
    session_limit: Annotated[Duration, Units("steps", "seconds")] | None = None
    """Steps or time after which this session saves and stops; the same command continues. Null: none."""
    micro_batch_size: int = Field(gt=0)
    """Samples per rank per forward pass."""
    global_batch_size: int = Field(gt=0)
    """Samples per optimizer step, over all ranks."""
    batch_ramp: BatchRamp | None = None
    """A smaller batch at the beginning; null: the same batch all along."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Number format of weights and activations; master weights and moments are always fp32."""
    device: Literal["auto", "cpu"] = "auto"
    """Where to train: on GPUs where there are some, or on the CPU in any case."""
    deterministic: bool = False
    """Whether a GPU adds in a fixed order, so that a repeated or resumed run has the same bits, at some cost in speed;
    on a CPU it has them anyway."""
    initial_loss_scale: float = Field(default=65536.0, ge=1)
    """Where fp16's dynamic loss scale starts."""
    garbage_collection_interval: int = Field(default=100, ge=0)
    """Steps between two garbage collections of Python, at the same step on all ranks; 0: whenever Python likes."""
    max_skipped_steps: int = Field(default=10, ge=0)
    """Non-finite steps in a row after which the run stops itself."""

    @model_validator(mode="after")
    def _ramps_up(self) -> TrainingConfig:
        ramp, full = self.batch_ramp, self.global_batch_size
        if ramp is not None and ramp.start > full:
            raise ValueError(
                f"batch_ramp.start is {ramp.start}, above global_batch_size {full}; expected at most {full}"
            )
        return self
