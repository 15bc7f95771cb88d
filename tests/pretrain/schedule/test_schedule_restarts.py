"""Schedules that begin anew at a stated place, and warm-ups that do not rise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import find_recipe, load_config
from pretrain.config import OptimizerConfig, RunConfig
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.schedule.learning_rate import Schedule
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import LengthPhase, SampleLengths
from tests.pretrain.tiny_run import tiny_config

SHAPES = ["cosine", "linear", "constant", "inverse_sqrt", "wsd"]
SEQ_LENGTH, BATCH = 32, 4
PER_STEP = {"steps": 1, "samples": BATCH, "tokens": BATCH * SEQ_LENGTH}
PEAK = {"lr": 1e-2, "min_lr": 1e-3}


def schedule(steps: int, optimizer: OptimizerConfig, lengths: SampleLengths | None = None) -> Schedule:
    return Schedule.resolve(
        optimizer,
        total_steps=steps,
        total_samples=steps * BATCH,
        lengths=lengths or SampleLengths.constant(SEQ_LENGTH),
        ends_by_tokens=lengths is not None,
    )


def rates(steps: int, plan: Schedule | None = None, **config: Any) -> list[float]:
    """The rate of every update."""
    plan = plan or schedule(steps, AdamWConfig.model_validate(PEAK | config))
    return [plan.learning_rate(step, step * BATCH, BATCH) for step in range(steps)]


@given(
    shape=st.sampled_from(SHAPES),
    units=st.sampled_from([("steps",) * 3, ("samples", "tokens", "samples"), ("tokens", "samples", "tokens")]),
    steps=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    warmup=st.integers(0, 30),
    decay=st.none() | st.integers(1, 30),
)
def test_each_part_has_the_rates_of_a_run_of_its_own(
    shape: str, units: tuple[str, str, str], steps: tuple[int, int], warmup: int, decay: int | None
) -> None:
    before, after = steps
    keys: dict[str, Any] = {"schedule": shape, "warmup": f"{warmup * PER_STEP[units[0]]} {units[0]}"}
    if decay is not None and shape in ("cosine", "linear", "wsd"):
        keys["decay"] = f"{decay * PER_STEP[units[1]]} {units[1]}"
    restart = f"{before * PER_STEP[units[2]]} {units[2]}"
    # To the last bit.
    assert rates(before + after, restart_at=restart, **keys) == rates(before, **keys) + rates(after, **keys)


def test_known_rates_after_a_restart() -> None:
    keys: dict[str, Any] = {"schedule": "linear", "warmup": "2 steps", "min_lr": 0.0}
    found = rates(16, restart_at="10 steps", **keys)
    assert found[:4] == pytest.approx([5e-3, 1e-2, 1e-2, 8.75e-3])
    assert found[9:] == pytest.approx([1.25e-3, 5e-3, 1e-2, 1e-2, 7.5e-3, 5e-3, 2.5e-3])
    plan = schedule(16, AdamWConfig.model_validate(PEAK | keys | {"restart_at": "10 steps"}))
    assert rates(16, plan) == found
    # Were the place not taken off the clock, or the first part the schedule of the whole, it would show.
    assert plan.before is not None and plan.begin == 10
    assert rates(16, replace(plan, begin=0.0))[10:] != found[10:]
    assert rates(16, replace(plan, before=replace(plan.before, total=16.0, decay_length=14.0)))[:10] != found[:10]


def test_an_update_that_begins_before_the_restart_belongs_to_what_is_before_it() -> None:
    keys = PEAK | {"schedule": "linear", "warmup": "8 samples", "restart_at": "18 samples"}
    plan = schedule(10, AdamWConfig.model_validate(keys))
    first, second = (plan.learning_rate(step, step * BATCH, BATCH) for step in (4, 5))
    # From 8 to 18 samples it falls; the update that begins at 20 ends 6 samples after the restart.
    assert first == pytest.approx(1e-2 - 9e-3 * 8 / 10) and second == pytest.approx(1e-2 * 6 / 8)


def test_a_run_in_tokens_restarts_where_its_samples_become_longer() -> None:
    lengths = SampleLengths((LengthPhase(0, 0, SEQ_LENGTH), LengthPhase(70, 70 * BATCH, 2 * SEQ_LENGTH)))
    keys: dict[str, Any] = {"schedule": "cosine", "warmup": "10 steps"}
    plan = schedule(120, AdamWConfig.model_validate(PEAK | keys | {"restart_at": "70 steps"}), lengths)
    assert plan.clock.unit == "tokens"
    assert rates(120, plan) == pytest.approx(rates(70, **keys) + rates(50, **keys))


def test_an_extended_run_whose_batch_changed_counts_from_the_restart_on() -> None:
    keys = {"optimizer__schedule": "linear", "optimizer__warmup": "16 samples", "optimizer__restart_at": "32 samples"}
    config = tiny_config(
        Path("x"), Path("y"), **keys, training__duration="12 steps", training__global_batch_size=8, optimizer__lr=0.01
    )

    def walk(progress: Progress) -> list[float]:
        plan, found = RunSchedule(config.training, config.optimizer, SampleLengths.constant(16), progress), []
        while not plan.is_done(progress):
            found.append(plan.learning_rate(progress))
            progress = progress.after(plan.global_batch_size(progress), applied=True)
        return found

    # Eight steps of 4 samples are behind it; four of 8 are left, two of them the warm-up.
    expected = [0.005, 0.01, 0.01, 0.005]
    assert walk(Progress(8, 32)) == pytest.approx(expected)
    assert walk(Progress(9, 40)) == walk(Progress(8, 32))[1:]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "from there, over the last 50 steps; an earlier update has the rate of a run that ends there"),
        ({"restart_at": "150 steps"}, "(150 steps) is not before the end of the run: nothing restarts"),
        (
            {"warmup": "60 steps"},
            "longer than what follows optimizer.restart_at (100 steps): the learning rate ends on",
        ),
        ({"schedule": "linear", "decay": "80 steps"}, "ends after what follows optimizer.restart_at (100 steps): the"),
        ({"schedule": "linear", "decay": "20 steps", "min_lr": 0}, "the last 30 of 50 steps will change no weight"),
        (
            {"restart_at": None, "schedule": "inverse_sqrt", "warmup": "200 steps", "warmup_shape": "constant"},
            "is longer than the run: the learning rate never leaves optimizer.lr (0.01)",
        ),
    ],
)
def test_what_restarts_is_told(keys: dict[str, Any], says: str) -> None:
    given = PEAK | {"restart_at": "100 steps"} | keys
    assert any(says in note for note in schedule(150, AdamWConfig.model_validate(given)).notes())


def test_weight_decay_does_not_restart() -> None:
    keys = PEAK | {"weight_decay": 0.4, "final_weight_decay": 0.1}
    restarted = schedule(40, AdamWConfig.model_validate(keys | {"restart_at": "20 steps"}))
    decays = [restarted.weight_decay(step, step * BATCH) for step in (0, 10, 30, 40)]
    assert decays == pytest.approx([0.4, 0.325, 0.175, 0.1])


@pytest.mark.parametrize("recipe", ["t5-base", "t5-11b"])
def test_the_recipes_of_t5_have_its_rates(recipe: str) -> None:
    """1/sqrt(max(n, k)) at step n with k = 10^4: constant, then the inverse square root of the step."""
    optimizer = load_config(RunConfig, find_recipe(recipe, "pretrain"), []).optimizer
    assert optimizer.name == "adafactor"
    plan = schedule(524_288, optimizer)
    for step in (0, 1, 5_000, 9_999, 10_000, 10_001, 40_000, 524_287):
        assert plan.learning_rate(step, step * BATCH, BATCH) == pytest.approx(1 / math.sqrt(max(step, 10_000)))
    rising = schedule(524_288, optimizer.model_copy(update={"warmup_shape": "linear"}))
    assert rising.learning_rate(0, 0, BATCH) == pytest.approx(1e-6)


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
def test_a_constant_warm_up_holds_the_peak_and_decays_as_ever(shape: str) -> None:
    held, rising = (rates(50, schedule=shape, warmup="10 steps", warmup_shape=kind) for kind in ("constant", "linear"))
    assert held[:10] == [1e-2] * 10 and held[10:] == rising[10:] and rising[0] == pytest.approx(1e-3)
