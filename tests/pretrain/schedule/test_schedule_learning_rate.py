from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.schedule.learning_rate import Schedule
from pretrain.schedule.sample_lengths import LengthPhase, SampleLengths

SHAPES = ["cosine", "linear", "constant", "inverse_sqrt", "wsd"]
SEQ_LENGTH = 32
BATCH = 4


def schedule(total_steps: int, **config: Any) -> Schedule:
    optimizer = AdamWConfig.model_validate({"lr": 1e-2, "min_lr": 1e-3} | config)
    return Schedule.resolve(
        optimizer,
        total_steps=total_steps,
        total_samples=total_steps * BATCH,
        lengths=SampleLengths.constant(SEQ_LENGTH),
    )


def rates(total_steps: int, **config: Any) -> list[float]:
    """The rate of every update, and of one after the end."""
    shape = schedule(total_steps, **config)
    return [shape.learning_rate(step, step * BATCH, BATCH) for step in range(total_steps + 1)]


@given(shape=st.sampled_from(SHAPES), total=st.integers(2, 400), data=st.data())
def test_rates_stay_between_zero_and_the_peak_and_never_fall_below_the_end(
    shape: str, total: int, data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(0, total - 1))
    found = rates(total, schedule=shape, warmup=f"{warmup} steps")
    assert max(found) == pytest.approx(1e-2)
    assert min(found) > 0 and min(found[warmup:]) >= 1e-3
    # The peak where the warm-up ends, and at the first update after it; never up again after that.
    assert found[warmup] == pytest.approx(1e-2)
    assert all(a >= b for a, b in pairwise(found[warmup:]))
    assert all(a < b for a, b in pairwise(found[:warmup]))


@given(shape=st.sampled_from(SHAPES), warmup=st.integers(50, 200), total=st.integers(800, 2000))
@settings(max_examples=25)
def test_no_jump_is_larger_than_the_steepest_slope(shape: str, warmup: int, total: int) -> None:
    found = rates(total, schedule=shape, warmup=f"{warmup} steps")
    slopes = {
        "cosine": math.pi / 2 / (total - warmup),
        "linear": 1 / (total - warmup),
        "constant": 0,
        "inverse_sqrt": 1 / (2 * warmup),
        "wsd": 10 / total,
    }
    steepest = 1e-2 * max(1 / warmup, slopes[shape])
    assert max(abs(a - b) for a, b in pairwise(found)) <= steepest * (1 + 1e-9)


@given(shape=st.sampled_from(["cosine", "linear", "wsd"]), total=st.integers(10, 500), data=st.data())
def test_decays_end_at_the_minimum_where_the_run_ends(shape: str, total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total - 1))
    found = rates(total, schedule=shape, warmup=f"{warmup} steps")
    assert found[total] == pytest.approx(1e-3)
    if total - warmup > 10:
        assert found[total - 1] < 1e-2


@given(shape=st.sampled_from(SHAPES), total=st.integers(2, 200), data=st.data())
def test_steps_samples_and_tokens_mean_the_same_at_a_constant_batch(
    shape: str, total: int, data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(1, total))
    in_steps = rates(total, schedule=shape, warmup=f"{warmup} steps")
    in_samples = rates(total, schedule=shape, warmup=f"{warmup * BATCH} samples")
    in_tokens = rates(total, schedule=shape, warmup=f"{warmup * BATCH * SEQ_LENGTH} tokens")
    assert in_steps == pytest.approx(in_samples) and in_samples == pytest.approx(in_tokens)


def test_known_values() -> None:
    assert rates(10, schedule="linear", warmup="2 steps", min_lr=0)[:5] == pytest.approx(
        [5e-3, 1e-2, 1e-2, 8.75e-3, 7.5e-3]
    )
    assert rates(8, schedule="cosine", min_lr=0)[4] == pytest.approx(5e-3)
    assert rates(400, schedule="inverse_sqrt", warmup="100 steps")[400] == pytest.approx(5e-3)
    wsd = rates(100, schedule="wsd", min_lr=0)
    assert wsd[90] == pytest.approx(1e-2) and wsd[95] == pytest.approx(5e-3)
    assert set(rates(10, schedule="constant")) == {1e-2}


def test_a_decay_of_its_own_length_ends_before_the_run() -> None:
    found = rates(100, schedule="cosine", warmup="10 steps", decay="40 steps")
    assert found[49] > 1e-3 and found[50:] == pytest.approx([1e-3] * 51)
    falling = rates(100, schedule="wsd", min_lr=0, wsd_decay="sqrt")
    assert falling[90] == pytest.approx(1e-2) and falling[95] == pytest.approx(1e-2 * (1 - 0.5**0.5))
    wsd = rates(100, schedule="wsd", decay="20 steps")
    assert wsd[80] == pytest.approx(1e-2) and wsd[81] < 1e-2


def test_edges_that_the_docstring_defines() -> None:
    # A warm-up longer than the run never reaches the peak.
    assert max(rates(10, warmup="100 steps")) == pytest.approx(1.1e-3)
    # A wsd decay longer than what the warm-up leaves begins where the warm-up ends.
    squeezed = rates(100, schedule="wsd", warmup="60 steps", decay="90 steps")
    assert squeezed[60] == pytest.approx(1e-2) and squeezed[80] == pytest.approx(5.5e-3)
    # An update across the end of the warm-up has the peak.
    assert schedule(100, warmup="6 samples").learning_rate(1, 4, BATCH) == pytest.approx(1e-2)


@given(shape=st.sampled_from(SHAPES), step=st.integers(0, 10**9))
def test_any_step_can_be_asked_for_alone(shape: str, step: int) -> None:
    plan = schedule(10**6, schedule=shape, warmup="2000 steps")
    alone = plan.learning_rate(step, step * BATCH, BATCH)
    assert 0 <= alone <= 1e-2
    assert alone == schedule(10**6, schedule=shape, warmup="2000 steps").learning_rate(step, step * BATCH, BATCH)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, None),
        ({"warmup": "100 steps"}, None),
        ({"decay": "100 steps"}, None),
        ({"decay": "40 steps"}, None),
        ({"decay": "40 steps", "min_lr": 0}, "the last 60 of 100 steps will change no weight"),
        ({"schedule": "wsd", "min_lr": 0}, None),
        ({"schedule": "constant", "warmup": "200 steps"}, "ends on its way up, at 0.005, and never reaches"),
        ({"warmup": f"{200 * BATCH * SEQ_LENGTH} tokens"}, "ends on its way up, at 0.005, and never reaches"),
        ({"schedule": "linear", "decay": "200 steps"}, "the learning rate ends at 0.0055, above optimizer.min_lr"),
    ],
)
def test_a_schedule_that_the_run_does_not_fill_is_told(config: dict[str, Any], says: str | None) -> None:
    notes = schedule(100, **config).notes()
    assert [says in note for note in notes] == [True] if says else notes == []


def changed_lengths(*phases: tuple[int, int, int]) -> SampleLengths:
    return SampleLengths(tuple(LengthPhase(*phase) for phase in phases))


@pytest.mark.parametrize("unit", ["steps", "samples", "tokens"])
@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
def test_a_run_in_tokens_goes_on_at_its_rate_when_its_samples_become_longer(shape: str, unit: str) -> None:
    # 100 steps of 4 x 32 tokens; from step 70 on, of 4 x 64.
    per_step = {"steps": 1, "samples": BATCH, "tokens": BATCH * SEQ_LENGTH}[unit]
    given: dict[str, Any] = {"lr": 1e-2, "min_lr": 1e-3, "schedule": shape, "warmup": f"{10 * per_step} {unit}"}
    decay = f"{40 * per_step} tokens" if unit == "tokens" else None
    optimizer = AdamWConfig.model_validate(given | {"decay": decay})
    planned = {"total_steps": 100, "total_samples": 100 * BATCH, "lengths": SampleLengths.constant(SEQ_LENGTH)}
    before = Schedule.resolve(optimizer, **planned, ends_by_tokens=True)  # type: ignore[arg-type]
    lengths = changed_lengths((0, 0, SEQ_LENGTH), (70, 70 * BATCH, 2 * SEQ_LENGTH))
    after = Schedule.resolve(optimizer, total_steps=85, total_samples=85 * BATCH, lengths=lengths, ends_by_tokens=True)
    for step in range(16):
        tokens_alike = before.learning_rate(70 + 2 * step, (70 + 2 * step) * BATCH, BATCH)
        assert after.learning_rate(70 + step, (70 + step) * BATCH, BATCH) == pytest.approx(tokens_alike)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"warmup": "10 steps", "decay": "1M tokens"}, r"warmup is 10 steps and optimizer\.decay is 1000000 tokens"),
        ({"schedule": "constant", "decay": "10 steps"}, "the schedule constant has no decay"),
    ],
)
def test_what_does_not_fit_is_one_error(config: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedule(100, **config)


@pytest.mark.parametrize(("shape", "quarter"), [("linear", 0.325), ("cosine", 0.4 - 0.3 * (1 - math.sqrt(0.5)) / 2)])
def test_weight_decay_goes_to_its_end_over_the_run(shape: str, quarter: float) -> None:
    found = schedule(40, weight_decay=0.4, final_weight_decay=0.1, weight_decay_schedule=shape)
    decays = [found.weight_decay(step, step * BATCH) for step in (0, 10, 20, 40, 50)]
    assert decays == pytest.approx([0.4, quarter, 0.25, 0.1, 0.1])
    assert schedule(40, weight_decay=0.4).weight_decay(39, 39 * BATCH) == 0.4
