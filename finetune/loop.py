"""The training loop of every fine-tuning task: steps, validations, the best weights, an early stop, saves."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from finetune.adversarial import InputPerturbation
from finetune.task_batches import TaskBatches
from finetune.task_monitor import TaskMonitor
from finetune.task_schedule import TaskSchedule
from finetune.task_step import StepOutcome, diverged, train_step
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    import torch

    from finetune.checkpoints import TaskCheckpoints
    from pretrain.engine.task_state import TaskState
    from pretrain.stopping import StopRequest


@dataclass
class Fit:
    """How far a training came, and how it went; all but `weights` and `stopped` is in its checkpoints.

    Attributes:
        steps: that were trained.
        best_step: when the validation was best.
        best: the figures of then.
        worse: validations since then.
        history: validation figures and losses, for the record.
        recent: losses of the steps that `history` has not told yet.
        seconds: that it took, validations included.
        is_complete: whether it came to its end, by its length or an early stop.
        stopped: whether a signal ended it.
        weights: the best by validation, fp32 or bf16 on the CPU; on rank 0 only, once it is complete.
    """

    steps: int = 0
    best_step: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    worse: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    seconds: float = 0.0
    is_complete: bool = False
    stopped: bool = False
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint says beside its tensors."""
        return {key: value for key, value in vars(self).items() if key not in ("weights", "stopped")}


@dataclass(frozen=True)
class TaskRun:
    """What a training works with on this rank.

    Attributes:
        config: everything that can be told.
        engine: a DeepSpeed engine (`pretrain/engine/task_engine.py`).
        state: its weights and optimizer states.
        data: batches, losses, validation.
        schedule: durations and learning rates.
        checkpoints: saves and restores.
        stop: says whether a signal came.
        monitor: tells how it goes (on one rank).
        perturbation: of the input embeddings, in adversarial training.
    """

    config: TaskConfig
    engine: Any
    state: TaskState
    data: TaskBatches
    schedule: TaskSchedule
    checkpoints: TaskCheckpoints
    stop: StopRequest
    monitor: TaskMonitor
    perturbation: InputPerturbation | None = None


def fit(run: TaskRun) -> Fit:
    """Train from the newest checkpoint, or from the beginning, to the end or a signal. Collective.

    Raises:
        UserError: a loss, a validation figure or a weight is not a number; status DIVERGED.
        CheckpointError: a checkpoint cannot be read or written, or is of another training.
    """
    from pretrain.engine.task_engine import full_weights

    saved = run.checkpoints.resume()
    result = Fit() if saved is None else Fit(**saved)
    run.monitor.begin(None if saved is None else result.steps)
    if saved is not None:
        run.monitor.event(result.steps, f"resumed at step {result.steps}/{run.schedule.total_steps}")
    started, before_s, first = time.monotonic(), result.seconds, result.steps
    while not result.is_complete and not result.stopped:
        outcome = _train(run, result)
        result.seconds = before_s + time.monotonic() - started
        if result.steps % run.config.training.log_interval == 0 or result.steps == run.schedule.total_steps:
            _tell_loss(run, result, (result.steps - first) / (result.seconds - before_s))
        if run.schedule.validation_is_due(result.steps):
            _validate(run, result)
        result.seconds = before_s + time.monotonic() - started
        result.stopped = outcome.stop
        if outcome.save or outcome.stop or run.schedule.save_is_due(result.steps) or result.is_complete:
            run.checkpoints.save(result.steps, result.progress())
    run.checkpoints.wait_for_copy()
    if result.is_complete:
        run.state.take_best()
        result.weights = full_weights(run.engine)
    run.checkpoints.finish()
    return result


def _train(run: TaskRun, result: Fit) -> StepOutcome:
    step = result.steps
    outcome = train_step(
        run.engine,
        run.data,
        step,
        run.schedule.learning_rate(step),
        open_layers=run.schedule.open_layers(step),
        perturbation=run.perturbation,
        seed=run.config.training_seed,
        before_update=run.checkpoints.wait_for_copy,
        flags=lambda: (run.stop.requested is not None, _is_first_rank() and run.checkpoints.is_due_by_time()),
    )
    result.recent.append(outcome.loss)
    result.steps += 1
    return outcome


def _tell_loss(run: TaskRun, result: Fit, steps_per_s: float) -> None:
    mean, total = sum(result.recent) / len(result.recent), run.schedule.total_steps
    result.history.append({"step": result.steps, "loss": mean})
    result.recent = []
    rate, left_s = run.schedule.learning_rate(result.steps - 1), (total - result.steps) / steps_per_s
    run.monitor.train(result.steps, mean, rate, steps_per_s * run.schedule.batch_size, left_s, total)


def _validate(run: TaskRun, result: Fit) -> None:
    """Measure, keep the weights if they are the best, and see whether that was the last time."""
    training, done = run.config.training, result.steps
    figures = {key: float(value) for key, value in run.data.evaluate(run.engine).items()}
    # The loss of a step is that before its update: only here is seen what the last update did.
    wrong = next((key for key, value in figures.items() if not math.isfinite(value)), None)
    rate = run.schedule.learning_rate(done - 1)
    if wrong is not None:
        raise diverged(f"the validation {wrong} is {figures[wrong]}", done, rate)
    result.history.append({"step": done} | {f"validation_{key}": value for key, value in figures.items()})
    better = _is_better(figures, result.best, training.select_by, run.config.selects[training.select_by])
    run.monitor.validation(done, figures, training.select_by if better else None)
    if better:
        result.best, result.best_step, result.worse = figures, done, 0
        run.checkpoints.wait_for_copy()
        if not run.state.keep_best():
            raise diverged("a weight is not finite", done, rate)
    else:
        result.worse += 1
    ends_early = training.patience is not None and result.worse >= training.patience
    if ends_early:
        run.monitor.event(done, f"stopped early: {training.select_by} was best at step {result.best_step}")
    result.is_complete = ends_early or done >= run.schedule.total_steps


def _is_first_rank() -> bool:
    import torch.distributed as dist

    return dist.get_rank() == 0


def _is_better(
    figures: Mapping[str, float], best: Mapping[str, float], select_by: str, best_is: Literal["highest", "lowest"]
) -> bool:
    """Whether the new figures are better; of equal ones, those of the smaller loss, where there is one."""
    if not best:
        return True
    if figures[select_by] != best[select_by]:
        return (figures[select_by] < best[select_by]) == (best_is == "lowest")
    return "loss" in figures and figures["loss"] < best["loss"]
