from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import TrainingConfig
from pretrain.schedule.batch_size import consumed_at, global_batch_size_at, step_of, steps_and_samples
from pretrain.schedule.sample_lengths import SampleLengths


def training(full: int, ramp: tuple[int, int, int] | None = None) -> TrainingConfig:
    raw = {"duration": "1 steps", "micro_batch_size": 1, "global_batch_size": full}
    if ramp is not None:
        raw["batch_ramp"] = dict(zip(("start", "increment", "samples"), ramp))
    return TrainingConfig.model_validate(raw)


@st.composite
def trainings(draw: st.DrawFn) -> TrainingConfig:
    full = draw(st.integers(1, 40))
    if draw(st.booleans()):
        return training(full)
    return training(full, (draw(st.integers(1, full)), draw(st.integers(1, 20)), draw(st.integers(1, 500))))


def walk(config: TrainingConfig, steps: int) -> list[int]:
    """Consumed samples after each step, by taking the steps."""
    consumed = [0]
    for _ in range(steps):
        consumed.append(consumed[-1] + global_batch_size_at(consumed[-1], config))
    return consumed


@given(config=trainings(), steps=st.integers(0, 300))
def test_sums_are_those_of_taking_the_steps_one_by_one(config: TrainingConfig, steps: int) -> None:
    walked = walk(config, steps)
    assert [consumed_at(step, config) for step in range(steps + 1)] == walked
    assert [step_of(consumed, config) for consumed in walked] == list(range(steps + 1))
    assert steps_and_samples(Duration(steps, "steps"), config, SampleLengths.constant(8)).samples == walked[-1]


@given(config=trainings(), samples=st.integers(0, 2000), seq_length=st.integers(1, 16))
def test_a_run_ends_with_the_first_step_that_reaches_its_length(
    config: TrainingConfig, samples: int, seq_length: int
) -> None:
    end = steps_and_samples(Duration(samples, "samples"), config, SampleLengths.constant(seq_length))
    assert end.samples >= samples and end.samples == consumed_at(end.steps, config)
    assert end.steps == 0 or consumed_at(end.steps - 1, config) < samples
    if samples:
        tokens = Duration((samples - 1) * seq_length + 1, "tokens")
        assert steps_and_samples(tokens, config, SampleLengths.constant(seq_length)) == end


@given(config=trainings(), consumed=st.integers(0, 2000))
def test_a_step_counts_when_it_is_finished(config: TrainingConfig, consumed: int) -> None:
    step = step_of(consumed, config)
    assert consumed_at(step, config) <= consumed < consumed_at(step + 1, config)


@given(config=trainings())
def test_the_batch_grows_and_arrives(config: TrainingConfig) -> None:
    sizes = [global_batch_size_at(consumed, config) for consumed in range(600)]
    assert sizes == sorted(sizes)
    ramp = config.batch_ramp
    assert sizes[0] == (ramp.start if ramp and ramp.samples > 0 else config.global_batch_size)
    assert sizes[ramp.samples if ramp else 0] == config.global_batch_size


def test_the_ramp_has_equal_stages() -> None:
    config = training(32, (8, 8, 90))
    sizes = [global_batch_size_at(consumed, config) for consumed in (0, 29, 30, 59, 60, 89, 90, 10**12)]
    assert sizes == [8, 8, 16, 16, 24, 24, 32, 32]
    assert walk(config, 7) == [0, 8, 16, 24, 32, 48, 64, 88]


def test_far_steps_cost_nothing() -> None:
    config = training(512, (64, 64, 10**7))
    assert step_of(consumed_at(10**12, config), config) == 10**12


def test_epochs_need_their_length_and_time_is_refused() -> None:
    assert (
        steps_and_samples(
            Duration.parse("2 epochs"), training(8), SampleLengths.constant(16), samples_per_epoch=12
        ).steps
        == 3
    )
    for text in ("2 epochs", "4h"):
        with pytest.raises(ConfigError, match=r"training\.duration"):
            steps_and_samples(Duration.parse(text), training(8), SampleLengths.constant(16))


def test_a_ramp_that_starts_above_its_end_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"batch_ramp\.start is 16, above global_batch_size 8"):
        training(8, (16, 8, 100))
