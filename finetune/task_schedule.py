"""The durations of a fine-tuning in steps, and its learning rates."""

from __future__ import annotations

from dataclasses import dataclass

from configs.durations import Duration
from configs.errors import ConfigError
from finetune.tasks.base_config import TaskTraining
from pretrain.config import OptimizerConfig
from pretrain.schedule.learning_rate import Schedule
from pretrain.schedule.sample_lengths import SampleLengths


@dataclass(frozen=True)
class TaskSchedule:
    """The durations of a training in steps, and its learning rates.

    Attributes:
        total_steps: length of the training.
        evaluate_every: steps between two validations.
        learning_rates: of each step.
        batch_size: samples of a step.
        save_every: steps between two saves; None: they go by time, or come at the end alone.
        unfreeze_every: steps after which the next layer gets a learning rate; None: all have one.
    """

    total_steps: int
    evaluate_every: int
    learning_rates: Schedule
    batch_size: int
    save_every: int | None = None
    unfreeze_every: int | None = None

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
        lengths: dict[str, int | None] = {}
        for key in ("save_every", "unfreeze_every"):
            given: Duration | None = getattr(training, key)
            in_steps = given is not None and given.unit != "seconds"
            lengths[key] = (
                _steps(f"training.{key}", given, steps_per_epoch, training.batch_size) if given and in_steps else None
            )
        return cls(total, min(every, total), learning_rates, training.batch_size, **lengths)

    def learning_rate(self, step: int) -> float:
        """The rate of step `step`, from 0."""
        return self.learning_rates.learning_rate(step, step * self.batch_size, self.batch_size)

    def open_layers(self, step: int) -> int | None:
        """Layers below the head that have a learning rate in step `step`, from 0; None: all."""
        return None if self.unfreeze_every is None else step // self.unfreeze_every

    def validation_is_due(self, done: int) -> bool:
        """Whether a validation follows the step that is number `done`, from 1."""
        return done % self.evaluate_every == 0 or done >= self.total_steps

    def save_is_due(self, done: int) -> bool:
        """Whether a save follows it, as far as steps say."""
        return self.save_every is not None and done % self.save_every == 0


def _steps(key: str, duration: Duration, steps_per_epoch: int, batch_size: int) -> int:
    if duration.unit == "epochs":
        steps = int(duration.value) * steps_per_epoch
    else:
        steps = duration.in_steps(batch_size, 1)
    if steps < 1:
        raise ConfigError(f"is {duration}", where=key, expected="at least one step")
    return steps
