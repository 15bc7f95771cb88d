"""The run's plan over time: how long, how large each step, at which learning rate. Pure functions of its progress."""

from __future__ import annotations

from pretrain.config import OptimizerConfig, TrainingConfig
from pretrain.schedule.batch_size import consumed_after, global_batch_size_at, step_of, steps_and_samples, steps_until
from pretrain.schedule.learning_rate import Schedule
from pretrain.schedule.progress import Progress
from pretrain.schedule.sample_lengths import SampleLengths


class RunSchedule:
    """What is planned for each step, from where the run stands.

    Attributes:
        total_steps: steps of the whole run, from its very beginning.

    Args:
        training: length and batch sizes.
        optimizer: the learning rates.
        lengths: tokens in the samples, those of earlier sessions too.
        progress: where the run stands. A run whose batch size or sample length was changed on the way still ends at
            its tokens, samples or steps, and its learning rate is at its end there.

    Raises:
        ConfigError: for durations that do not fit each other.
    """

    def __init__(
        self, training: TrainingConfig, optimizer: OptimizerConfig, lengths: SampleLengths, progress: Progress
    ) -> None:
        self._training, self._lengths = training, lengths
        length = steps_and_samples(training.duration, training, lengths)
        self._ends_by_steps = training.duration.unit == "steps"
        self._total_samples = length.samples
        self.total_steps = length.steps
        # Both lengths are of a run with this batch size from its beginning. Of the steps behind it only what they
        # consumed is known; where the size never changed, this leaves both as they are.
        consumed = progress.consumed_samples
        if self._ends_by_steps:
            self._total_samples = consumed_after(max(0, length.steps - progress.step), consumed, training)
        elif consumed < length.samples:
            self.total_steps = progress.step + steps_until(length.samples, consumed, training)
        else:
            self.total_steps += progress.step - step_of(consumed, training)
        self._rates = Schedule.resolve(
            optimizer,
            total_steps=self.total_steps,
            total_samples=self._total_samples,
            lengths=lengths,
            ends_by_tokens=training.duration.unit == "tokens",
        )

    def is_done(self, progress: Progress) -> bool:
        """Whether nothing is left to train."""
        if self._ends_by_steps:
            return progress.step >= self.total_steps
        return progress.consumed_samples >= self._total_samples

    def consumed_tokens(self, progress: Progress) -> int:
        """Tokens of the samples consumed so far, each of the length that it had when it was trained on."""
        return int(self._lengths.tokens(progress.consumed_samples))

    def notes(self) -> list[str]:
        """What may surprise about the learning rate, a sentence each."""
        return self._rates.notes()

    def global_batch_size(self, progress: Progress) -> int:
        """Samples of the next step."""
        return global_batch_size_at(progress.consumed_samples, self._training)

    def learning_rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""
        return self._rates.learning_rate(progress.step, progress.consumed_samples, self.global_batch_size(progress))

    def weight_decay(self, progress: Progress) -> float:
        """Weight decay of the next step."""
        return self._rates.weight_decay(progress.step, progress.consumed_samples)
