"""How many samples each step takes: a function of the samples consumed so far, and its exact sums.

With a ramp the batch grows from `start` by `increment`s. The ramp's samples are cut into as many equal stages as it
has increments; a step takes the batch size of the stage in which it begins.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import TrainingConfig
from pretrain.schedule.sample_lengths import SampleLengths


@dataclass(frozen=True)
class RunLength:
    """The end of a run.

    Attributes:
        steps: steps from the very beginning.
        samples: samples that these steps consume.
    """

    steps: int
    samples: int


@dataclass(frozen=True)
class _Stage:
    """Steps of one batch size: the first one's number, the samples consumed before it, the size."""

    step: int
    consumed: int
    size: int


def global_batch_size_at(consumed_samples: int, training: TrainingConfig) -> int:
    """Samples of the step that begins after `consumed_samples`."""
    ramp, full = training.batch_ramp, training.global_batch_size
    if ramp is None or consumed_samples >= ramp.samples:
        return full
    return min(full, ramp.start + ramp.increment * (consumed_samples * _num_stages(training) // ramp.samples))


def consumed_at(step: int, training: TrainingConfig) -> int:
    """Samples consumed when `step` steps are finished."""
    stages = _stages(training)
    stage = stages[bisect_right(stages, step, key=lambda stage: stage.step) - 1]
    return stage.consumed + (step - stage.step) * stage.size


def consumed_after(steps: int, consumed_samples: int, training: TrainingConfig) -> int:
    """Samples consumed when `steps` more steps are finished after `consumed_samples`, wherever those came from."""
    while steps > 0:
        size = global_batch_size_at(consumed_samples, training)
        end = _stage_end(consumed_samples, training)
        taken = steps if end is None else min(steps, -(-(end - consumed_samples) // size))
        consumed_samples += taken * size
        steps -= taken
    return consumed_samples


def steps_until(end_samples: int, consumed_samples: int, training: TrainingConfig) -> int:
    """Steps from `consumed_samples` on, wherever those came from, until `end_samples` are consumed."""
    steps = 0
    while consumed_samples < end_samples:
        size = global_batch_size_at(consumed_samples, training)
        end = min(end_samples, _stage_end(consumed_samples, training) or end_samples)
        taken = -(-(end - consumed_samples) // size)
        consumed_samples += taken * size
        steps += taken
    return steps


def step_of(consumed_samples: int, training: TrainingConfig) -> int:
    """Steps that are finished when `consumed_samples` are consumed; a step of which only a part is counts not."""
    stages = _stages(training)
    stage = stages[bisect_right(stages, consumed_samples, key=lambda stage: stage.consumed) - 1]
    return stage.step + (consumed_samples - stage.consumed) // stage.size


def steps_and_samples(
    duration: Duration, training: TrainingConfig, lengths: SampleLengths, samples_per_epoch: int | None = None
) -> RunLength:
    """The first end of a step at which `duration` is over.

    Args:
        duration: in steps, samples, tokens or epochs.
        training: gives the batch sizes.
        lengths: tokens in the samples.
        samples_per_epoch: what an epoch is; None: epochs are refused.

    Raises:
        ConfigError: for a duration in time, or in epochs without their length.
    """
    amount = int(duration.value)
    if duration.unit == "steps":
        return RunLength(amount, consumed_at(amount, training))
    in_samples = {"samples": amount, "tokens": lengths.samples(amount)}
    if samples_per_epoch is not None:
        in_samples["epochs"] = amount * samples_per_epoch
    if duration.unit not in in_samples:
        raise ConfigError(
            f"{duration} cannot be counted in steps",
            where="training.duration",
            expected=f"steps, {' or '.join(in_samples)}, such as '1000 steps'",
        )
    samples = in_samples[duration.unit]
    steps = step_of(samples, training)
    if consumed_at(steps, training) < samples:
        steps += 1
    return RunLength(steps, consumed_at(steps, training))


def _num_stages(training: TrainingConfig) -> int:
    ramp, full = training.batch_ramp, training.global_batch_size
    assert ramp is not None
    return max(1, -(-(full - ramp.start) // ramp.increment))


def _stage_end(consumed_samples: int, training: TrainingConfig) -> int | None:
    """The first consumption that lies in a later stage of the ramp; None where there is no later one."""
    ramp = training.batch_ramp
    if ramp is None or consumed_samples >= ramp.samples:
        return None
    count = _num_stages(training)
    return -(-(consumed_samples * count // ramp.samples + 1) * ramp.samples // count)


@lru_cache(maxsize=16)
def _stages(training: TrainingConfig) -> list[_Stage]:
    stages = [_Stage(0, 0, global_batch_size_at(0, training))]
    if training.batch_ramp is None:
        return stages
    samples, count = training.batch_ramp.samples, _num_stages(training)
    step = consumed = 0
    for number in range(count):
        size = global_batch_size_at(consumed, training)
        if size != stages[-1].size:
            stages.append(_Stage(step, consumed, size))
        # The first consumption that lies in a later stage; steps may jump over a whole one.
        end = -(-(number + 1) * samples // count)
        steps = max(0, -(-(end - consumed) // size))
        step, consumed = step + steps, consumed + steps * size
    if stages[-1].size != training.global_batch_size:
        stages.append(_Stage(step, consumed, training.global_batch_size))
    return stages
