"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pretrain.divergence import Diverged
from pretrain.garbage import collected_together
from pretrain.monitor.records import StepRecord
from pretrain.schedule.progress import Progress

if TYPE_CHECKING:
    from pretrain.engine.engine import StepResult
    from pretrain.trainer import Trainer


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        progress: how far it came.
        reason: `finished`, or what asked for a stop.
    """

    progress: Progress
    reason: str


def train(run: Trainer) -> Ending:
    """Train from where `run` stands to its end, or to the step after which any rank was asked to stop.

    Raises:
        Diverged: after too many steps in a row without a finite loss and gradient.
    """
    with collected_together(run.config.training.garbage_collection_interval) as collect:
        return _train(run, collect)


def _train(run: Trainer, collect: Callable[[int], None]) -> Ending:
    progress = run.progress
    if run.schedule.is_done(progress):
        # Nothing is left to train, but a set may be new or another one.
        run.evaluate(progress)
    while not run.schedule.is_done(progress):
        started_s = time.perf_counter()
        batch_size = run.schedule.global_batch_size(progress)
        micro_batches = run.train_loader.global_batch(progress.consumed_samples, batch_size)
        data_time_s = time.perf_counter() - started_s

        learning_rate = run.schedule.learning_rate(progress)
        result = run.engine.train_batch(
            micro_batches,
            step=progress.step,
            learning_rate=learning_rate,
            weight_decay=run.schedule.weight_decay(progress),
            flags=partial(run.flags, progress),
            measures_layers=run.layer_norms_are_due(progress),
        )
        stop, save = (flag > 0 for flag in result.flags)

        progress = progress.after(batch_size, applied=result.applied)
        record = step_record(run, progress, result, learning_rate, batch_size, started_s, data_time_s)
        run.monitor.log_step(record)
        run.monitor.log_layers(progress.step, result.layer_norms)
        try:
            run.guard.observe(record)
        except Diverged:
            run.finish(progress, "diverged")
            raise

        collect(progress.step)
        is_last = run.schedule.is_done(progress)
        if run.evaluation_is_due(progress) or is_last:
            run.evaluate(progress)
        if run.save_is_due(progress) or save or stop or is_last:
            run.save(progress)
        if stop and not is_last:
            return Ending(progress, run.reason_to_stop or "a stop that another rank asked for")
    return Ending(progress, "finished")


def step_record(
    run: Trainer,
    progress: Progress,
    result: StepResult,
    learning_rate: float,
    batch_size: int,
    started_s: float,
    data_time_s: float,
) -> StepRecord:
    """The log record of the step that led to `progress`."""
    is_logged = progress.step % run.config.monitor.log_interval == 0
    return StepRecord(
        step=progress.step,
        consumed_samples=progress.consumed_samples,
        consumed_tokens=run.schedule.consumed_tokens(progress),
        loss=result.loss,
        losses=result.losses,
        grad_norm=result.grad_norm,
        learning_rate=learning_rate,
        param_norm=run.engine.parameter_norm() if is_logged else None,
        global_batch_size=batch_size,
        step_time_s=time.perf_counter() - started_s,
        data_time_s=data_time_s,
        skipped=not result.applied,
        skipped_total=progress.skipped_steps,
        loss_scale=result.loss_scale,
    )
