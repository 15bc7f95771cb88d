"""Learning rates as pure functions of how far a run is.

A schedule has a clock: finished steps, consumed samples or consumed tokens, whichever its durations are given in. An
update that begins at clock b and ends at clock e uses

- while e <= warmup: `lr * e / warmup`: the first update already moves, the one that ends the warm-up has the peak;
- later: the shape's value at b, which begins at the peak where the warm-up ends and reaches `min_lr` where the decay
  ends; an update that begins there or later has `min_lr`.

Counting the warm-up at an update's end and the decay at its beginning wastes no update on a rate of zero at either end.
An update across the end of the warm-up (in samples or tokens) has the peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from configs.errors import ConfigError
from pretrain.config import OptimizerConfig
from pretrain.config.optimizer import DECAYING
from pretrain.schedule.sample_lengths import SampleLengths

Clock = Literal["steps", "samples", "tokens"]
_WSD_DECAY_SHARE = 10


@dataclass(frozen=True)
class Schedule:
    """A schedule whose durations are numbers on one clock.

    Attributes:
        config: peak, end and shape.
        clock: what the clock counts.
        lengths: tokens in the samples.
        total: length of the run.
        warmup: length of the warm-up.
        decay_start: where the decay begins.
        decay_length: how long it lasts; 0: the rate is `min_lr` at once.
    """

    config: OptimizerConfig
    clock: Clock
    lengths: SampleLengths
    total: float
    warmup: float
    decay_start: float
    decay_length: float

    @classmethod
    def resolve(
        cls,
        config: OptimizerConfig,
        *,
        total_steps: int,
        total_samples: int,
        lengths: SampleLengths,
        ends_by_tokens: bool = False,
    ) -> Schedule:
        """Bring the durations of `config` to one clock.

        Without `decay`, cosine and linear fall from the end of the warm-up to the end of the run, and wsd falls over
        the run's last tenth. A warm-up longer than the run never reaches the peak. A wsd decay longer than what the
        warm-up leaves begins where the warm-up ends.

        Args:
            config: the schedule.
            total_steps: length of the whole run, from its very beginning.
            total_samples: the same in samples.
            lengths: tokens in the samples.
            ends_by_tokens: whether the run's length is given in tokens. Once the length of the samples has changed,
                the clock then counts tokens, whatever the durations do: else the rate would jump.

        Raises:
            ConfigError: for durations in time or epochs, durations of two kinds (steps, and samples or tokens), or a
                decay of a shape that has none.
        """
        if config.decay is not None and config.schedule not in DECAYING:
            raise ConfigError(
                f"is {config.decay}, but the schedule {config.schedule} has no decay of its own",
                where="optimizer.decay",
                expected=f"null, or one of the schedules {', '.join(DECAYING)}",
            )
        clock = _clock(config)
        if ends_by_tokens and lengths.have_changed:
            clock = "tokens"
        last = lengths.phases[-1]
        samples_per_step = (total_samples - last.from_sample) / max(1, total_steps - last.from_step)
        totals = {"steps": total_steps, "samples": total_samples, "tokens": lengths.tokens(total_samples)}

        def place(amount: float, unit: str) -> float:
            """Where on the clock a run is after its first `amount` steps, samples or tokens."""
            if unit == clock:
                return float(amount)
            return lengths.tokens(amount if unit == "samples" else lengths.samples_at_step(amount, samples_per_step))

        total, warmup, decay = float(totals[clock]), place(config.warmup.value, config.warmup.unit), config.decay
        if config.schedule == "wsd":
            length = total / _WSD_DECAY_SHARE
            if decay is not None:
                length = total - place(totals[decay.unit] - decay.value, decay.unit)
            length = min(length, max(0.0, total - warmup))
            return cls(config, clock, lengths, total, warmup, total - length, length)
        if decay is None:
            length = max(0.0, total - warmup)
        elif decay.unit == config.warmup.unit:
            length = place(config.warmup.value + decay.value, decay.unit) - warmup
        elif decay.unit == clock:
            length = float(decay.value)
        else:
            # No warm-up; or one in tokens before a decay in samples.
            length = place(lengths.samples(int(warmup)) + decay.value if warmup else decay.value, decay.unit) - warmup
        return cls(config, clock, lengths, total, warmup, warmup, length)

    def notes(self) -> list[str]:
        """What may surprise about the rates, a sentence each."""
        config, told = self.config, []
        if self.warmup > self.total:
            told.append(
                f"optimizer.warmup ({config.warmup}) is longer than the run: the learning rate ends on its way up, at"
                f" {config.lr * self.total / self.warmup:.3g}, and never reaches optimizer.lr ({config.lr:g})"
            )
            return told
        if config.schedule not in DECAYING:
            return told
        end = self.decay_start + self.decay_length
        if end > self.total:
            told.append(
                f"optimizer.decay ({config.decay}) ends after the run: the learning rate ends at"
                f" {self._after_warmup(self.total, 1.0):.3g}, above optimizer.min_lr ({config.min_lr:g})"
            )
        if end < self.total and config.min_lr == 0:
            told.append(
                f"optimizer.decay ({config.decay}) ends before the run, and optimizer.min_lr is 0: the last"
                f" {self.total - end:,.0f} of {self.total:,.0f} {self.clock} will change no weight"
            )
        return told

    def learning_rate(self, step: int, consumed_samples: int, global_batch_size: int) -> float:
        """The rate of the update that comes when `step` steps are finished and `consumed_samples` consumed.

        Args:
            step: finished steps.
            consumed_samples: samples consumed by them.
            global_batch_size: samples of the update itself.
        """
        begin, end = (
            self._on_clock(step, consumed_samples),
            self._on_clock(step + 1, consumed_samples + global_batch_size),
        )
        if begin < self.warmup:
            return self.config.lr * min(1.0, end / self.warmup)
        return max(self.config.min_lr, self._after_warmup(float(begin), float(end - begin)))

    def weight_decay(self, step: int, consumed_samples: int) -> float:
        """The weight decay of the update that comes when `step` steps are finished and `consumed_samples` consumed."""
        start, end = self.config.weight_decay, self.config.final_weight_decay
        if end is None:
            return start
        done = min(1.0, self._on_clock(step, consumed_samples) / self.total) if self.total else 1.0
        if self.config.weight_decay_schedule == "cosine":
            done = 0.5 * (1 - math.cos(math.pi * done))
        return start + (end - start) * done

    def _on_clock(self, step: int, consumed_samples: int) -> float:
        if self.clock == "steps":
            return step
        return consumed_samples if self.clock == "samples" else self.lengths.tokens(consumed_samples)

    def _after_warmup(self, begin: float, length: float) -> float:
        low, high = self.config.min_lr, self.config.lr
        if self.config.schedule == "constant":
            return high
        if self.config.schedule == "inverse_sqrt":
            # Without a warm-up the first update is the unit.
            unit = self.warmup or length
            return high * math.sqrt(unit / max(begin, unit))
        if begin < self.decay_start:
            return high
        done = min(1.0, (begin - self.decay_start) / self.decay_length) if self.decay_length else 1.0
        if self.config.schedule == "cosine":
            return high - (high - low) * 0.5 * (1 - math.cos(math.pi * done))
        if self.config.schedule == "wsd" and self.config.wsd_decay == "sqrt":
            return high - (high - low) * math.sqrt(done)
        return high - (high - low) * done


def _clock(config: OptimizerConfig) -> Clock:
    """What the durations of `config` count; steps where none says.

    Raises:
        ConfigError: for durations in time or epochs, or in steps and in samples or tokens.
    """
    given = {"optimizer.warmup": config.warmup, "optimizer.decay": config.decay}
    units: set[str] = set()
    for key, duration in given.items():
        if duration is None or (key == "optimizer.warmup" and duration.value == 0):
            continue
        units.add(duration.unit)
    if "steps" in units and len(units) > 1:
        raise ConfigError(
            f"optimizer.warmup is {config.warmup} and optimizer.decay is {config.decay}",
            where="optimizer",
            expected="both in steps, or both in samples or tokens",
        )
    if "tokens" in units:
        return "tokens"
    return "samples" if units == {"samples"} else "steps"
