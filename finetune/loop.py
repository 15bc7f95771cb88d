"""The training loop of every fine-tuning task: steps, validations, the best weights, an early stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from configs.durations import Duration
from configs.errors import ConfigError, ExitStatus, UserError
from finetune.task_batches import TaskBatches
from finetune.tasks.base_config import TaskTraining
from pretrain.config import OptimizerConfig
from pretrain.schedule.learning_rate import Schedule
from pretrain.schedule.sample_lengths import SampleLengths

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TaskSchedule:
    """The durations of a training in steps, and its learning rates.

    Attributes:
        total_steps: length of the training.
        evaluate_every: steps between two validations.
        learning_rates: of each step.
    """

    total_steps: int
    evaluate_every: int
    learning_rates: Schedule

    @classmethod
    def resolve(cls, training: TaskTraining, optimizer: OptimizerConfig, steps_per_epoch: int) -> TaskSchedule:
        """Bring all durations to steps.

        Raises:
            ConfigError: a duration of no steps.
        """
        total = _steps("training.duration", training.duration, steps_per_epoch, training.batch_size)
        every = _steps("training.evaluate_every", training.evaluate_every, steps_per_epoch, training.batch_size)
        learning_rates = Schedule.resolve(
            optimizer,
            total_steps=total,
            total_samples=total * training.batch_size,
            lengths=SampleLengths.constant(1),
        )
        return cls(total, min(every, total), learning_rates)


@dataclass
class Fit:
    """How the training went.

    Attributes:
        weights: the best by validation, fp32 or bf16 on the CPU; on rank 0 only.
        best_step: when they were.
        best: their validation figures.
        steps: that were trained.
        seconds: that it took, validations included.
        history: validation figures and losses, for the record.
    """

    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best_step: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    engine: Any,
    data: TaskBatches,
    schedule: TaskSchedule,
    training: TaskTraining,
    best_is: Literal["highest", "lowest"],
    log: Callable[[str], None],
) -> Fit:
    """Train and keep the best weights. Collective.

    Args:
        engine: a DeepSpeed engine (`pretrain/engine/task_engine.py`).
        data: batches, losses, validation.
        schedule: durations and learning rates.
        training: which figure selects, how patient.
        best_is: which value of that figure.
        log: prints a line (on one rank).

    Raises:
        UserError: a loss, a validation figure or a weight is not a number; status DIVERGED.
    """
    from pretrain.engine.task_engine import full_weights

    result = Fit()
    started = time.monotonic()
    worse = 0
    recent: list[float] = []
    for step in range(schedule.total_steps):
        recent.append(_train_step(engine, data, schedule, training, step))
        done = step + 1
        if done % training.log_interval == 0 or done == schedule.total_steps:
            mean = sum(recent) / len(recent)
            result.history.append({"step": done, "loss": mean})
            log(_line(done, schedule, mean, time.monotonic() - started, training.batch_size))
            recent.clear()
        if done % schedule.evaluate_every and done < schedule.total_steps:
            continue
        figures = dict(data.evaluate(engine))
        # The loss of a step is that before its update: only here is seen what the last update did.
        wrong = next((key for key, value in figures.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise _diverged(f"the validation {wrong} is {figures[wrong]}", done, _rate(schedule, training, step))
        result.history.append({"step": done} | {f"validation_{key}": value for key, value in figures.items()})
        better = _is_better(figures, result.best, training.select_by, best_is)
        log(_validation_line(done, figures, training.select_by if better else None))
        if better:
            result.weights, result.best, result.best_step, worse = full_weights(engine), figures, done, 0
            if not _all_finite(result.weights, engine.device):
                raise _diverged("a weight is not finite", done, _rate(schedule, training, step))
        else:
            worse += 1
        if training.patience is not None and worse >= training.patience:
            log(f"stopped early: {training.select_by} was best at step {result.best_step}")
            break
    result.steps, result.seconds = done, time.monotonic() - started
    return result


def _train_step(engine: Any, data: TaskBatches, schedule: TaskSchedule, training: TaskTraining, step: int) -> float:
    """Returns the loss of the step, the mean over all ranks."""
    import torch
    import torch.distributed as dist

    from pretrain.engine.task_engine import set_learning_rate

    rate = _rate(schedule, training, step)
    set_learning_rate(engine, rate)
    engine.train()
    micro_batches = data.losses(engine, step)
    total = torch.zeros((), device=engine.device)
    for compute in micro_batches:
        loss = compute()
        engine.backward(loss)
        with _float32_range(step + 1, rate):
            engine.step()
        total += loss.detach().float() / len(micro_batches)
    dist.all_reduce(total)
    mean = float(total) / dist.get_world_size()
    if not math.isfinite(mean):
        raise _diverged(f"the loss is {mean}", step + 1, rate)
    return mean


def _rate(schedule: TaskSchedule, training: TaskTraining, step: int) -> float:
    return schedule.learning_rates.learning_rate(step, step * training.batch_size, training.batch_size)


def _diverged(what: str, done: int, rate: float) -> UserError:
    return UserError(
        f"{what} at step {done}",
        where="training",
        expected=f"finite numbers; a smaller optimizer.lr (it is {rate:.2g} there) or precision=fp32 may help",
        status=ExitStatus.DIVERGED,
    )


@contextmanager
def _float32_range(done: int, rate: float) -> Iterator[None]:
    """Torch computes step sizes in double precision and refuses those that its float32 kernels cannot take."""
    try:
        yield
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise ConfigError(
            f"the update of step {done} has a factor beyond float32",
            where="optimizer",
            expected=f"a smaller optimizer.lr (it is {rate:.2g} there) or optimizer.weight_decay",
        ) from None


def _all_finite(weights: Mapping[str, torch.Tensor], device: torch.device) -> bool:
    """Whether rank 0's weights are; the same answer on every rank. Collective."""
    import torch
    import torch.distributed as dist

    wrong = torch.tensor(sum(not bool(torch.isfinite(tensor).all()) for tensor in weights.values()), device=device)
    dist.all_reduce(wrong)
    return not int(wrong)


def _is_better(
    figures: Mapping[str, float], best: Mapping[str, float], select_by: str, best_is: Literal["highest", "lowest"]
) -> bool:
    """Whether the new figures are better; of equal ones, those of the smaller loss, where there is one."""
    if not best:
        return True
    if figures[select_by] != best[select_by]:
        return (figures[select_by] < best[select_by]) == (best_is == "lowest")
    return "loss" in figures and figures["loss"] < best["loss"]


def _steps(key: str, duration: Duration, steps_per_epoch: int, batch_size: int) -> int:
    if duration.unit == "epochs":
        steps = int(duration.value) * steps_per_epoch
    else:
        steps = duration.in_steps(batch_size, 1)
    if steps < 1:
        raise ConfigError(f"is {duration}", where=key, expected="at least one step")
    return steps


def _line(done: int, schedule: TaskSchedule, loss: float, elapsed_s: float, batch_size: int) -> str:
    speed = done / elapsed_s
    rate = schedule.learning_rates.learning_rate(done - 1, (done - 1) * batch_size, batch_size)
    left = (schedule.total_steps - done) / speed
    return (
        f"step {done:>5}/{schedule.total_steps}  loss {loss:.4f}  lr {rate:.2e}"
        f"  {speed * batch_size:,.0f} samples/s  {left:.0f} s left"
    )


def _validation_line(done: int, figures: Mapping[str, float], best: str | None) -> str:
    values = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
    return f"  validation at step {done}: {values}" + (f"  (best {best})" if best else "")
