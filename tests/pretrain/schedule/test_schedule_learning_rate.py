from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.schedule.learning_rate import Schedule, learning_rate

SHAPES = ["cosine", "linear", "constant", "inverse_sqrt", "wsd"]
SEQ_LENGTH = 32
BATCH = 4


def schedule(total_steps: int, **config: Any) -> Schedule:
    optimizer = AdamWConfig.model_validate({"lr": 1e-2, "min_lr": 1e-3} | config)
    return Schedule.resolve(
        optimizer, total_steps=total_steps, total_samples=total_steps * BATCH, seq_length=SEQ_LENGTH
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
    optimizer = AdamWConfig.model_validate({"lr": 1e-2, "schedule": shape, "warmup": "2000 steps"})
    lengths = {"total_steps": 10**6, "total_samples": 10**6 * BATCH, "seq_length": SEQ_LENGTH}
    alone = learning_rate(step, step * BATCH, optimizer, global_batch_size=BATCH, **lengths)
    assert 0 <= alone <= 1e-2
    assume(step < 10**6)
    assert alone == Schedule.resolve(optimizer, **lengths).learning_rate(step, step * BATCH, BATCH)


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
