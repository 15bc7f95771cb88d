"""The log records of the training loop: one per step, one per validation set, one at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One finished step of the run.

    Attributes:
        step: number of the step, the first one being 1; skipped steps count.
        consumed_samples: samples read so far, over all ranks and sessions.
        consumed_tokens: tokens read so far, over all ranks and sessions.
        loss: what was trained, the mean over the step's global batch: each named loss times its coefficient.
        losses: mean of each loss of the objective, by name.
        grad_norm: global gradient norm before clipping.
        learning_rate: rate that the step used.
        param_norm: global norm of the weights; None where it was not computed.
        global_batch_size: samples of this step, over all ranks.
        step_time_s: wall time of the step, waiting for data included.
        data_time_s: part of it that was spent waiting for data.
        skipped: whether the update was left out because loss or gradient was not finite.
        skipped_total: steps left out so far.
        loss_scale: the fp16 loss scale; None for other precisions.
        host_memory_bytes: resident memory, largest over the ranks; None: this process' own is read.
        device_memory_bytes: peak device memory, largest over the ranks; None: this process' own is read.
    """

    step: int
    consumed_samples: int
    consumed_tokens: int
    loss: float
    losses: Mapping[str, float]
    grad_norm: float
    learning_rate: float
    param_norm: float | None
    global_batch_size: int
    step_time_s: float
    data_time_s: float
    skipped: bool
    skipped_total: int
    loss_scale: float | None
    host_memory_bytes: int | None = None
    device_memory_bytes: int | None = None


@dataclass(frozen=True)
class EvalRecord:
    """One validation (or test) set after one step.

    Attributes:
        step: the last finished step.
        name: name of the set.
        loss: mean loss in nats per label.
        figures: what else the objective tells, by name, such as `perplexity`; None where a figure is not known.
    """

    step: int
    name: str
    loss: float
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class RunOutcome:
    """What the loop knows when it ends.

    Attributes:
        ended_by: `finished`, the name of the signal, or `diverged`.
        step: the last finished step.
        total_steps: steps that the run was to have; None where it ends by time.
        consumed_tokens: tokens read over all sessions.
        skipped_steps: steps without an update over all sessions.
        num_parameters: weights of the model.
        layout: how the ranks were used, in words.
        device_name: `cpu` or the accelerator's name.
        checkpoint: the newest complete checkpoint; None where there is none.
        started_from: where the first weights came from; None: they were drawn.
        branched_from: another run's checkpoint that it went on from; None: none.
        stretches: its parts that began with changed settings; see `pretrain.lineage`.
    """

    ended_by: str
    step: int
    total_steps: int | None
    consumed_tokens: int
    skipped_steps: int
    num_parameters: int
    layout: str
    device_name: str
    checkpoint: Path | None
    started_from: Mapping[str, Any] | None = None
    branched_from: Mapping[str, Any] | None = None
    stretches: Sequence[Mapping[str, Any]] = ()


_NO_FIGURES = ("kind", "step", "name", "loss", "fingerprint", "session_s", "evaluations")


def evaluation_figures(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures among the values of a `validation` record, beside its loss."""
    return {key: value for key, value in values.items() if key not in _NO_FIGURES}
