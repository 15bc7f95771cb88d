from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.durations import Duration, Units
from configs.section import Section


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1000 steps", 1000, "steps"),
        ("1 step", 1, "steps"),
        ("2B tokens", 2 * 10**9, "tokens"),
        ("2.5B tokens", 25 * 10**8, "tokens"),
        ("375M tokens", 375 * 10**6, "tokens"),
        ("1.1M tokens", 1_100_000, "tokens"),
        ("5k samples", 5000, "samples"),
        ("1_000 steps", 1000, "steps"),
        ("3 epochs", 3, "epochs"),
        ("2T tokens", 2 * 10**12, "tokens"),
        ("4h", 14400, "seconds"),
        ("1.5 hours", 5400, "seconds"),
        ("90 s", 90, "seconds"),
        ("90s", 90, "seconds"),
        ("0.5s", 0.5, "seconds"),
        ("1 second", 1, "seconds"),
        ("30 min", 1800, "seconds"),
        ("30min", 1800, "seconds"),
        ("30 minutes", 1800, "seconds"),
        ("2 d", 172800, "seconds"),
        ("2 days", 172800, "seconds"),
        ("0 steps", 0, "steps"),
        ("7 tokens", 7, "tokens"),
        ("1e9 tokens", 10**9, "tokens"),
        ("2 B tokens", 2 * 10**9, "tokens"),
        ("3Mtokens", 3 * 10**6, "tokens"),
    ],
)
def test_what_people_write(text: str, value: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(value, unit)


@pytest.mark.parametrize(
    "text",
    ["", "steps", "1000", "-5 steps", "5 xsteps", "1e99 steps", "1e999999999 tokens", "5m", "1e-3 steps",
     "1000 stepz", "1.5 steps", "5k h", "4 x", "1,000 steps", "nan s", "1 steps tokens", "1000 stepss", "1 ss"],
)  # fmt: skip
def test_what_is_not_a_duration_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Duration.parse(text)
    assert repr(text) in str(caught.value)


counted = st.builds(Duration, st.integers(0, 10**15), st.sampled_from(["steps", "tokens", "samples", "epochs"]))
timed = st.builds(Duration, st.integers(0, 10**9), st.just("seconds"))


@settings(deadline=None, max_examples=60)
@given(counted | timed)
def test_what_is_printed_is_read_back(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1e6, allow_nan=False))
def test_fractions_of_seconds_are_read_back(seconds: float) -> None:
    duration = Duration(seconds, "seconds")
    assert Duration.parse(str(duration)) == duration


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["k", "M", "B", "T"]))
def test_scales_are_powers_of_a_thousand(number: int, scale: str) -> None:
    power = "kMBT".index(scale) + 1
    assert Duration.parse(f"{number}{scale} tokens").value == number * 1000**power


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**12), st.integers(1, 4096), st.integers(1, 8192))
def test_steps_cover_the_duration_and_one_less_does_not(amount: int, batch: int, seq: int) -> None:
    for unit, size in (("tokens", batch * seq), ("samples", batch), ("steps", 1)):
        steps = Duration(amount, unit).in_steps(batch, seq)
        assert steps * size >= amount
        assert steps == 0 or (steps - 1) * size < amount


@pytest.mark.parametrize("text", ["3 epochs", "4h"])
def test_what_cannot_be_counted_in_steps_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be counted in steps"):
        Duration.parse(text).in_steps(8, 128)


class Lengths(Section):
    run: Annotated[Duration, Units("steps", "tokens")] = Duration(1, "steps")
    limit: Annotated[Duration, Units("seconds")] | None = None
    warmup: Annotated[Duration, Units("steps", zero=True)] = Duration(0, "steps")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"run": "4h"}, "is in seconds; expected steps or tokens, such as '1000 steps' or '2B tokens'"),
        ({"run": "3 epochs"}, "is in epochs; expected steps or tokens"),
        ({"run": "0 steps"}, "is no length; expected more than 0 steps"),
        ({"limit": "10 steps"}, "is in steps; expected time, such as '4h'"),
    ],
)
def test_a_unit_that_has_no_meaning_there_is_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Lengths.model_validate(given)


def test_units_that_have_a_meaning_are_taken() -> None:
    lengths = Lengths.model_validate({"run": "2k tokens", "limit": "4h", "warmup": "0 steps"})
    assert (lengths.run, lengths.limit) == (Duration(2000, "tokens"), Duration(4 * 3600.0, "seconds"))
    assert Lengths.model_validate({"limit": None}).limit is None


def test_a_duration_is_itself() -> None:
    assert Duration.parse(Duration(3, "steps")) == Duration(3, "steps")
