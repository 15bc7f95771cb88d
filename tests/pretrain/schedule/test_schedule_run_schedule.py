from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.durations import Duration
from pretrain.config import BatchRamp, RunConfig
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import LengthPhase, SampleLengths
from tests.pretrain.tiny_run import tiny_config

SHAPE = {"optimizer__lr": 0.01, "optimizer__min_lr": 1e-5, "optimizer__schedule": "linear"}
BASE = tiny_config(Path("x"), Path("y"), **SHAPE)


def config(**changes: Any) -> RunConfig:
    return tiny_config(Path("x"), Path("y"), **SHAPE, **changes)


def schedule_of(config: RunConfig, progress: Progress) -> RunSchedule:
    return RunSchedule(config.training, config.optimizer, SampleLengths.constant(config.model.seq_length), progress)


def with_batches(duration: str, full: int, ramp: tuple[int, int, int] | None, warmup: str) -> RunConfig:
    """Like `config`, without the parsing that makes thousands of examples slow."""
    batch_ramp = None if ramp is None else BatchRamp(start=min(ramp[0], full), increment=ramp[1], samples=ramp[2])
    changes = {"duration": Duration.parse(duration), "global_batch_size": full, "batch_ramp": batch_ramp}
    return BASE.model_copy(
        update={
            "training": BASE.training.model_copy(update=changes),
            "optimizer": BASE.optimizer.model_copy(update={"warmup": Duration.parse(warmup)}),
        }
    )


def walk(settings: RunConfig, progress: Progress, at_most: int = 10**6) -> tuple[Progress, list[float]]:
    """Where a session that starts at `progress` ends, and the rates of its steps."""
    plan, rates = schedule_of(settings, progress), []
    while not plan.is_done(progress) and len(rates) < at_most:
        rates.append(plan.learning_rate(progress))
        progress = progress.after(plan.global_batch_size(progress), applied=True)
    return progress, rates


def test_a_run_in_steps_whose_rate_counts_samples_ends_at_the_minimum_though_the_batch_was_changed() -> None:
    settings = {"training__duration": "8 steps", "optimizer__warmup": "4 samples", "training__micro_batch_size": 1}
    half_way, _ = walk(config(**settings, training__global_batch_size=4), Progress(), at_most=4)
    assert half_way == Progress(step=4, consumed_samples=16)
    doubled = config(**settings, training__global_batch_size=8)
    end, rates = walk(doubled, half_way)
    assert end == Progress(step=8, consumed_samples=48)
    # Linear from the warm-up's end at 4 samples to the minimum at 48, at each step's beginning.
    expected = [0.01 - (0.01 - 1e-5) * (begin - 4) / 44 for begin in (16, 24, 32, 40)]
    assert rates == pytest.approx(expected)
    assert schedule_of(doubled, half_way).learning_rate(end) == pytest.approx(1e-5)
    # A session in between sees the same rates.
    later, first = walk(doubled, half_way, at_most=2)
    assert first + walk(doubled, later)[1] == rates


ramps = st.none() | st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 200))


@given(
    amount=st.integers(1, 60),
    unit=st.sampled_from(["steps", "samples"]),
    clock=st.sampled_from(["steps", "samples"]),
    old=st.tuples(st.integers(1, 12), ramps),
    new=st.tuples(st.integers(1, 12), ramps),
    stop=st.integers(1, 40),
)
def test_wherever_the_batch_was_changed_the_plan_says_where_the_run_ends(
    amount: int, unit: str, clock: str, old: Any, new: Any, stop: int
) -> None:
    duration, warmup = f"{amount} {unit}", f"1 {clock}"
    before, after = (with_batches(duration, *batches, warmup) for batches in (old, new))
    middle, first = walk(before, Progress(), at_most=stop)
    end, rest = walk(after, middle)
    plan = schedule_of(after, middle)
    if rest:
        assert plan.total_steps == end.step
        assert plan.learning_rate(end) == pytest.approx(1e-5)
    # Unchanged, a resumed plan is the plan: to the last bit.
    assert first + walk(before, middle)[1] == walk(before, Progress())[1]
    assert schedule_of(before, middle).total_steps == schedule_of(before, Progress()).total_steps


def with_lengths(*phases: tuple[int, int, int]) -> SampleLengths:
    return SampleLengths(tuple(LengthPhase(*phase) for phase in phases))


@pytest.mark.parametrize(("seq_length", "steps_more", "tokens"), [(128, 5, 10_240), (32, 20, 10_240), (64, 10, 10_240)])
def test_a_run_in_tokens_ends_at_its_tokens_though_its_samples_changed_their_length(
    seq_length: int, steps_more: int, tokens: int
) -> None:
    # 80 samples of 64 tokens are behind it: 5,120 of 10,000 tokens.
    settings = config(training__duration="10k tokens")
    progress = Progress(step=10, consumed_samples=80)
    plan = RunSchedule(settings.training, settings.optimizer, with_lengths((0, 0, 64), (10, 80, seq_length)), progress)
    assert plan.consumed_tokens(progress) == 5_120
    assert plan.total_steps == 10 + steps_more
    counted = []
    while not plan.is_done(progress):
        progress = progress.after(plan.global_batch_size(progress), applied=True)
        counted.append(plan.consumed_tokens(progress))
    assert progress.step == plan.total_steps
    assert counted == [5_120 + 8 * seq_length * (step + 1) for step in range(steps_more)]
    assert counted[-1] == tokens


@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=4),
    tokens=st.integers(0, 5000),
)
def test_the_fewest_samples_that_have_some_tokens(sizes: list[tuple[int, int]], tokens: int) -> None:
    phases, sample, counted = [], 0, [0]
    for count, length in sizes:
        phases.append((sample, sample, length))
        sample += count
        counted += [counted[-1] + length * (i + 1) for i in range(count)]
    counted += [counted[-1] + sizes[-1][1] * (i + 1) for i in range(5001)]
    lengths = with_lengths(*phases)
    fewest = lengths.samples(tokens)
    assert counted[fewest] >= tokens
    assert fewest == 0 or counted[fewest - 1] < tokens
    assert [lengths.tokens(number) for number in range(sample + 3)] == counted[: sample + 3]
