"""The run's plan over time: how long, how large each step, at which learning rate. Pure functions of its progress."""

from __future__ import annotations

from functools import cached_property

from pretrain.batch_schedule import RunLength, global_batch_size_at, steps_and_samples
from pretrain.config import RunConfig
from pretrain.progress import Progress
from pretrain.schedules import Schedule


class RunSchedule:
    """What `config` plans for each step.

    Raises:
        ConfigError: for durations that do not fit each other.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.length: RunLength = steps_and_samples(config.training.duration, config.training, config.model.seq_length)
        self._rates = Schedule.resolve(
            config.optimizer,
            total_steps=self.length.steps,
            total_samples=self.length.samples,
            seq_length=config.model.seq_length,
        )

    @cached_property
    def total_steps(self) -> int:
        """Steps of the whole run, from its very beginning."""
        return self.length.steps

    def is_done(self, progress: Progress) -> bool:
        """Whether nothing is left to train."""
        return progress.step >= self.length.steps

    def global_batch_size(self, progress: Progress) -> int:
        """Samples of the next step."""
        return global_batch_size_at(progress.consumed_samples, self._config.training)

    def learning_rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""
        return self._rates.learning_rate(progress.step, progress.consumed_samples, self.global_batch_size(progress))
