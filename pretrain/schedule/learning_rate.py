"""Learning rates as pure functions of how far a run is.

A schedule has a clock: finished steps, or consumed samples, whichever its durations are given in. An update that
begins at clock b and ends at clock e uses

- while e <= warmup: `lr * e / warmup`: the first update already moves, the one that ends the warm-up has the peak;
- later: the shape's value at b, which begins at the peak where the warm-up ends and reaches `min_lr` where the decay
  ends; an update that begins there or later has `min_lr`.

Counting the warm-up at an update's end and the decay at its beginning wastes no update on a rate of zero at either end.
An update across the end of the warm-up (in samples) has the peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import OptimizerConfig

_DECAYING = ("cosine", "linear", "wsd")
_WSD_DECAY_SHARE = 10


@dataclass(frozen=True)
class Schedule:
    """A schedule whose durations are numbers on one clock.

    Attributes:
        config: peak, end and shape.
        in_steps: whether the clock counts steps; else samples.
        warmup: length of the warm-up.
        decay_start: where the decay begins.
        decay_length: how long it lasts; 0: the rate is `min_lr` at once.
    """

    config: OptimizerConfig
    in_steps: bool
    warmup: float
    decay_start: float
    decay_length: float

    @classmethod
    def resolve(cls, config: OptimizerConfig, *, total_steps: int, total_samples: int, seq_length: int) -> Schedule:
        """Bring the durations of `config` to one clock.

        Without `decay`, cosine and linear fall from the end of the warm-up to the end of the run, and wsd falls over
        the run's last tenth. A warm-up longer than the run never reaches the peak. A wsd decay longer than what the
        warm-up leaves begins where the warm-up ends.

        Args:
            config: the schedule.
            total_steps: length of the whole run, from its very beginning.
            total_samples: the same in samples.
            seq_length: tokens per sample.

        Raises:
            ConfigError: for durations in time or epochs, durations of two kinds (steps, and samples or tokens), or a
                decay of a shape that has none.
        """
        if config.decay is not None and config.schedule not in _DECAYING:
            raise ConfigError(
                f"is {config.decay}, but the schedule {config.schedule} has no decay of its own",
                where="optimizer.decay",
                expected=f"null, or one of the schedules {', '.join(_DECAYING)}",
            )
        in_steps = _counts_steps(config)
        total = float(total_steps if in_steps else total_samples)
        warmup = _on_clock(config.warmup, seq_length)
        decay = None if config.decay is None else _on_clock(config.decay, seq_length)
        if config.schedule == "wsd":
            length = min(total / _WSD_DECAY_SHARE if decay is None else decay, max(0.0, total - warmup))
            return cls(config, in_steps, warmup, total - length, length)
        return cls(config, in_steps, warmup, warmup, max(0.0, total - warmup) if decay is None else decay)

    def learning_rate(self, step: int, consumed_samples: int, global_batch_size: int) -> float:
        """The rate of the update that comes when `step` steps are finished and `consumed_samples` consumed.

        Args:
            step: finished steps.
            consumed_samples: samples consumed by them.
            global_batch_size: samples of the update itself.
        """
        begin, length = (step, 1) if self.in_steps else (consumed_samples, global_batch_size)
        if begin < self.warmup:
            return self.config.lr * min(1.0, (begin + length) / self.warmup)
        return max(self.config.min_lr, self._after_warmup(float(begin), float(length)))

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


def learning_rate(
    step: int,
    consumed_samples: int,
    config: OptimizerConfig,
    *,
    global_batch_size: int,
    total_steps: int,
    total_samples: int,
    seq_length: int,
) -> float:
    """The rate of one update; see `Schedule.resolve` and `Schedule.learning_rate`.

    Raises:
        ConfigError: see `Schedule.resolve`.
    """
    schedule = Schedule.resolve(config, total_steps=total_steps, total_samples=total_samples, seq_length=seq_length)
    return schedule.learning_rate(step, consumed_samples, global_batch_size)


def _counts_steps(config: OptimizerConfig) -> bool:
    given = {"optimizer.warmup": config.warmup, "optimizer.decay": config.decay}
    kinds = {}
    for key, duration in given.items():
        if duration is None or (key == "optimizer.warmup" and duration.value == 0):
            continue
        kinds[key] = duration.unit == "steps"
    if len(set(kinds.values())) > 1:
        raise ConfigError(
            f"optimizer.warmup is {config.warmup} and optimizer.decay is {config.decay}",
            where="optimizer",
            expected="both in steps, or both in samples or tokens",
        )
    return next(iter(kinds.values()), True)


def _on_clock(duration: Duration, seq_length: int) -> float:
    return duration.value / seq_length if duration.unit == "tokens" else float(duration.value)
