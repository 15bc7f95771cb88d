from __future__ import annotations

import sys
from types import FrameType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.permutation import Permutation


@given(size=st.integers(1, 5000), key=st.integers(0, 2**31))
def test_every_element_is_hit_exactly_once(size: int, key: int) -> None:
    shuffled = Permutation(size, key, "documents")(np.arange(size))
    assert np.array_equal(np.sort(shuffled), np.arange(size))


@given(size=st.integers(2, 2**61), key=st.integers(0, 2**31), data=st.data())
def test_one_element_of_any_size_goes_where_the_vector_says(size: int, key: int, data: st.DataObject) -> None:
    numbers = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)))
    permutation = Permutation(size, key)
    together = permutation(numbers)
    assert together.min() >= 0 and together.max() < size
    assert [int(permutation(numbers[i : i + 1])[0]) for i in range(len(numbers))] == together.tolist()
    assert len(set(together.tolist())) == len(set(numbers.tolist()))


def test_the_order_is_fixed_for_ever() -> None:
    # Literal: a changed order would silently change the data of every run that resumes.
    assert Permutation(10, 1, "a")(np.arange(10)).tolist() == [1, 8, 2, 4, 7, 0, 9, 3, 6, 5]


def test_keys_give_unrelated_orders_and_each_place_is_equally_likely() -> None:
    size, keys = 30, 1500
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    expected = keys / size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = (size - 1) ** 2
    assert abs(chi_square - degrees) < 6 * np.sqrt(2 * degrees)


def test_neighbours_do_not_stay_neighbours() -> None:
    size = 100_000
    shuffled = Permutation(size, 7)(np.arange(size)).astype(float)
    assert abs(np.corrcoef(shuffled, np.arange(size))[0, 1]) < 0.02
    assert abs(np.corrcoef(shuffled[1:], shuffled[:-1])[0, 1]) < 0.02
    assert np.mean(np.abs(np.diff(shuffled)) == 1) < 0.001


def test_refuses_numbers_outside() -> None:
    for number in (-1, 5):
        with pytest.raises(IndexError, match="permutation of 5"):
            Permutation(5, 0)(np.array([number]))
    with pytest.raises(ValueError, match="size 0"):
        Permutation(0, 0)


def test_a_million_elements_need_no_loop_in_python() -> None:
    def lines_run(elements: int) -> int:
        lines = 0

        def count(frame: FrameType, event: str, argument: object) -> object:
            nonlocal lines
            lines += event == "line"
            return count

        numbers = np.arange(elements)
        before = sys.gettrace()
        sys.settrace(count)
        try:
            Permutation(1_000_000, 3)(numbers)
        finally:
            sys.settrace(before)
        return lines

    assert lines_run(1_000_000) < 30_000  # blocks of many elements; a loop over them would be millions
