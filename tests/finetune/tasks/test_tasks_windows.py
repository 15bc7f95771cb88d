"""Windows hold every unit, overlap as told, and each unit is judged where most is around it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from finetune.tasks.windows import speakers, windows


def test_a_short_text_is_one_window() -> None:
    assert windows([1, 2, 3], 6, 2) == [(0, 3)] and speakers([(0, 3)], 3) == [0, 0, 0]
    assert windows([], 4, 1) == [(0, 0)]


def test_windows_overlap_by_whole_units() -> None:
    assert windows([1] * 10, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert windows([1] * 10, 4, 0) == [(0, 4), (4, 8), (8, 10)]
    assert windows([3, 3, 3], 5, 2) == [(0, 1), (1, 2), (2, 3)], "no unit fits into what is shared"
    assert windows([9, 1, 1], 5, 2) == [(0, 1), (1, 3)], "a unit larger than a window has its own"


def test_the_window_that_shows_most_around_a_unit_speaks() -> None:
    assert speakers([(0, 4), (2, 6), (4, 8), (6, 10)], 10) == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_left_out(seed: int) -> None:
    generator = random.Random(seed)
    sizes = [generator.randint(0, 5) for _ in range(generator.randint(1, 60))]
    room = generator.randint(5, 20)
    found = windows(sizes, room, generator.randint(0, room - 1))
    assert found[0][0] == 0 and found[-1][1] == len(sizes)
    for (start, end), (following, its_end) in pairwise(found):
        assert start < following <= end < its_end
    assert all(sum(sizes[start:end]) <= room for start, end in found)
    spoken = speakers(found, len(sizes))
    assert all(found[number][0] <= unit < found[number][1] for unit, number in enumerate(spoken))
