from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError
from pretrain.data.blend import MAX_PERIOD, Blend

_weights = st.lists(st.integers(1, 1000).map(lambda n: n / 100), min_size=1, max_size=12)


@settings(max_examples=25)
@given(weights=_weights)
def test_no_corpus_is_ever_a_whole_sample_from_its_share(weights: list[float]) -> None:
    count = 3000
    corpora, _ = Blend(weights).locate(np.arange(count))
    total = sum(Fraction(str(weight)) for weight in weights)
    for position, weight in enumerate(weights):
        given_so_far = np.cumsum(corpora == position)
        share = Fraction(str(weight)) / total
        # Exact: n * share is compared as n * numerator / denominator.
        error = np.abs(given_so_far * share.denominator - np.arange(1, count + 1) * share.numerator)
        assert error.max() < share.denominator


@settings(max_examples=25)
@given(weights=_weights, start=st.integers(0, 10**9))
def test_far_away_samples_follow_the_shares_too_and_numbers_run_on(weights: list[float], start: int) -> None:
    blend = Blend(weights)
    corpora, numbers = blend.locate(np.arange(start, start + 500))
    for position, share in enumerate(blend.shares):
        mine = numbers[corpora == position]
        # The number of a corpus' next sample is how many it gave before: within one of the ideal.
        places = np.arange(start, start + 500)[corpora == position]
        assert np.all(np.abs(mine - places * share) < 1 + 1e-6)
        assert np.array_equal(mine, np.arange(len(mine)) + (mine[0] if len(mine) else 0))


@settings(max_examples=25)
@given(weights=_weights, numbers=st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_a_sample_is_the_same_whoever_asks_and_in_which_company(weights: list[float], numbers: list[int]) -> None:
    blend = Blend(weights)
    corpora, inner = blend.locate(np.array(numbers))
    for i, number in enumerate(numbers):
        corpus, alone = Blend(weights).locate(np.array([number]))
        assert (corpus[0], alone[0]) == (corpora[i], inner[i])


def test_weights_with_many_digits_are_rounded_to_a_bounded_period() -> None:
    blend = Blend([0.123456789, 2.718281828, 31.4159265])
    assert blend.period == MAX_PERIOD
    ideal = np.array([0.123456789, 2.718281828, 31.4159265])
    assert np.abs(blend.shares - ideal / ideal.sum()).max() <= 1 / MAX_PERIOD


def test_proportional_weights_are_one_mixture() -> None:
    assert Blend([3, 1]).locate(np.arange(8))[0].tolist() == Blend([0.75, 0.25]).locate(np.arange(8))[0].tolist()


def test_a_share_that_rounds_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="1e-09"):
        Blend([1.0, 1e-9])


@settings(max_examples=25)
@given(weights=_weights, count=st.integers(0, 4000))
def test_what_each_corpus_has_given_is_what_was_located(weights: list[float], count: int) -> None:
    blend = Blend(weights)
    corpora, _ = blend.locate(np.arange(count))
    assert blend.given(count).tolist() == np.bincount(corpora, minlength=len(weights)).tolist()
