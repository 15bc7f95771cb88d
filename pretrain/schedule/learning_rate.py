"""Learning rates as pure functions of how far a run is.

A schedule has a clock: finished steps, consumed samples or consumed tokens, whichever its durations are given in. An
update that begins at clock b and ends at clock e uses

- while e <= warmup: `lr * e / warmup`: the first update already moves, the one that ends the warm-up has the peak; with
  `warmup_shape` constant, the peak;
- later: the shape's value at b, which begins at the peak where the warm-up ends and reaches `min_lr` where the decay
  ends; an update that begins there or later has `min_lr`.

Counting the warm-up at an update's end and the decay at its beginning wastes no update on a rate of zero at either end.
An update across the end of the warm-up (in samples or tokens) has the peak.

With `restart_at`, there are two such schedules of the same keys, one after the other, that differ in where they begin
and end alone: an update that begins before `restart_at` has the rate of a run that ends there, a later one that of a
run that begins there and is as long as what is left. So each rate is a function of the clock, the length of the run and
the keys. What an extended run trained before under other keys stays as it was trained: nothing is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import OptimizerConfig
from pretrain.config.optimizer import DECAYING
from pretrain.schedule.rate_clock import BEGINNING, RateClock, clock_of
from pretrain.schedule.sample_lengths import SampleLengths

_WSD_DECAY_SHARE = 10


@dataclass(frozen=True)
class Schedule:
    """A schedule whose durations are numbers on one clock.

    Attributes:
        config: peak, end and shape.
        clock: what they count.
        total: length of the run, from `begin` on as all lengths are.
        warmup: length of the warm-up.
        decay_start: where the decay begins.
        decay_length: how long it lasts; 0: the rate is `min_lr` at once.
        begin: where on the clock it begins.
        before: the schedule up to there; None: it begins with the run.
    """

    config: OptimizerConfig
    clock: RateClock
    total: float
    warmup: float
    decay_start: float
    decay_length: float
    begin: float = 0.0
    before: Schedule | None = None

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
        warm-up leaves begins where the warm-up ends. With `restart_at` all of this is of what follows it, and of what
        is before it; one that lies beyond the end of the run changes nothing.

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
        unit = clock_of(config)
        if ends_by_tokens and lengths.have_changed:
            unit = "tokens"
        last = lengths.phases[-1]
        clock = RateClock(unit, lengths, (total_samples - last.from_sample) / max(1, total_steps - last.from_step))
        ends = {"steps": total_steps, "samples": total_samples, "tokens": lengths.tokens(total_samples)}
        restart = config.restart_at
        if restart is None or clock.place(restart) >= ends[unit]:
            return cls._between(config, clock, BEGINNING, ends)
        units = {restart.unit} if restart.unit == "steps" else {"samples", "tokens"}
        restarts = {unit: clock.place(restart)} | {name: clock.counted_in(restart, name) for name in units}
        before = cls._between(config, clock, BEGINNING, restarts)
        return replace(cls._between(config, clock, restart, ends), before=before)

    @classmethod
    def _between(
        cls, config: OptimizerConfig, clock: RateClock, start: Duration, ends: Mapping[str, float]
    ) -> Schedule:
        """The schedule that begins at a place and ends at another.

        Args:
            config: the schedule.
            clock: what it counts.
            start: where it begins.
            ends: where it ends, in the clock's unit and in that of the decay.
        """
        begin, decay = clock.place(start), config.decay
        total = float(ends[clock.unit]) - begin
        warm = clock.later(start, config.warmup)
        warmup = clock.place(warm) - begin
        if config.schedule == "wsd":
            length = total / _WSD_DECAY_SHARE
            if decay is not None:
                length = ends[clock.unit] - clock.place(Duration(ends[decay.unit] - decay.value, decay.unit))
            length = min(length, max(0.0, total - warmup))
            return cls(config, clock, total, warmup, total - length, length, begin)
        if decay is None:
            length = max(0.0, total - warmup)
        else:
            length = clock.place(clock.later(warm, decay)) - clock.place(warm)
        return cls(config, clock, total, warmup, warmup, length, begin)

    def notes(self) -> list[str]:
        """What may surprise about the rates, a sentence each."""
        config, told, run = self.config, [], "the run"
        if self.before is not None:
            run = f"what follows optimizer.restart_at ({config.restart_at})"
            told.append(
                f"optimizer.restart_at ({config.restart_at}): warm-up and decay are counted from there, over the last"
                f" {self.total:,.0f} {self.clock.unit}; an earlier update has the rate of a run that ends there"
            )
        elif config.restart_at is not None:
            told.append(
                f"optimizer.restart_at ({config.restart_at}) is not before the end of the run: nothing restarts"
            )
        if self.warmup > self.total:
            highest = config.lr * self.total / self.warmup
            ends = f"the learning rate ends on its way up, at {highest:.3g}, and never reaches"
            if config.warmup_shape == "constant":
                ends = "the learning rate never leaves"
            told.append(f"optimizer.warmup ({config.warmup}) is longer than {run}: {ends} optimizer.lr ({config.lr:g})")
            return told
        if config.schedule not in DECAYING:
            return told
        end = self.decay_start + self.decay_length
        if end > self.total:
            told.append(
                f"optimizer.decay ({config.decay}) ends after {run}: the learning rate ends at"
                f" {self._after_warmup(self.total, 1.0):.3g}, above optimizer.min_lr ({config.min_lr:g})"
            )
        if end < self.total and config.min_lr == 0:
            told.append(
                f"optimizer.decay ({config.decay}) ends before {run}, and optimizer.min_lr is 0: the last"
                f" {self.total - end:,.0f} of {self.total:,.0f} {self.clock.unit} will change no weight"
            )
        return told

    def learning_rate(self, step: int, consumed_samples: int, global_batch_size: int) -> float:
        """The rate of the update that comes when `step` steps are finished and `consumed_samples` consumed.

        Args:
            step: finished steps.
            consumed_samples: samples consumed by them.
            global_batch_size: samples of the update itself.
        """
        if self.before is not None and self.clock.at(step, consumed_samples) < self.begin:
            return self.before.learning_rate(step, consumed_samples, global_batch_size)
        begin = self.clock.at(step, consumed_samples) - self.begin
        end = self.clock.at(step + 1, consumed_samples + global_batch_size) - self.begin
        if begin < self.warmup:
            reached = 1.0 if self.config.warmup_shape == "constant" else min(1.0, end / self.warmup)
            return self.config.lr * reached
        return max(self.config.min_lr, self._after_warmup(begin, end - begin))

    def weight_decay(self, step: int, consumed_samples: int) -> float:
        """The weight decay of the update that comes when `step` steps are finished and `consumed_samples` consumed.

        It goes over the whole run, whatever restarts.
        """
        start, end = self.config.weight_decay, self.config.final_weight_decay
        if end is None:
            return start
        total = self.begin + self.total
        done = min(1.0, self.clock.at(step, consumed_samples) / total) if total else 1.0
        if self.config.weight_decay_schedule == "cosine":
            done = 0.5 * (1 - math.cos(math.pi * done))
        return start + (end - start) * done

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
