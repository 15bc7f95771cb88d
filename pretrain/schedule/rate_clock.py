"""What the durations of a learning rate's schedule count, and where each of them ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import OptimizerConfig
from pretrain.config.optimizer import OF_ONE_KIND
from pretrain.schedule.sample_lengths import SampleLengths

Clock = Literal["steps", "samples", "tokens"]
BEGINNING = Duration(0, "steps")


@dataclass(frozen=True)
class RateClock:
    """Counts from the beginning of a run.

    Attributes:
        unit: what it counts.
        lengths: tokens in the samples.
        samples_per_step: from the last change of the samples' length on.
    """

    unit: Clock
    lengths: SampleLengths
    samples_per_step: float

    def at(self, step: int, consumed_samples: int) -> float:
        """What it shows when `step` steps are finished and `consumed_samples` consumed."""
        if self.unit == "steps":
            return step
        return consumed_samples if self.unit == "samples" else self.lengths.tokens(consumed_samples)

    def place(self, place: Duration) -> float:
        """What it shows where a run's first steps, samples or tokens end."""
        amount, unit = place.value, place.unit
        if unit == self.unit:
            return float(amount)
        in_samples = amount if unit == "samples" else self.lengths.samples_at_step(amount, self.samples_per_step)
        return self.lengths.tokens(in_samples)

    def later(self, start: Duration, by: Duration) -> Duration:
        """The place where `by` ends, counted from the place `start`."""
        return start if by.value == 0 else Duration(self.counted_in(start, by.unit) + by.value, by.unit)

    def counted_in(self, place: Duration, unit: str) -> float:
        """The same place in another unit of its kind: the fewest samples that have some tokens, or the other way."""
        if place.unit == unit or place.value == 0:
            return place.value
        return self.lengths.samples(int(place.value)) if unit == "samples" else self.lengths.tokens(place.value)


def clock_of(config: OptimizerConfig) -> Clock:
    """What the durations of `config` count; steps where none says.

    Raises:
        ConfigError: for durations in steps, and in samples or tokens.
    """
    units = {duration.unit for duration in config.schedule_durations().values()}
    if "steps" in units and len(units) > 1:
        raise ConfigError(
            " and ".join(f"{key} is {duration}" for key, duration in config.schedule_durations().items()),
            where="optimizer",
            expected=OF_ONE_KIND,
        )
    if "tokens" in units:
        return "tokens"
    return "samples" if units == {"samples"} else "steps"
