"""Long texts in windows that overlap: which units each window holds, and which window speaks for a unit."""

from __future__ import annotations

from collections.abc import Sequence


def windows(sizes: Sequence[int], room: int, stride: int) -> list[tuple[int, int]]:
    """First unit and the unit after the last, of each window; together they hold every unit.

    Args:
        sizes: tokens of each unit: of a word, or 1 where tokens are the units.
        room: tokens of a window; a unit that is larger has a window of its own.
        stride: tokens of a window that the next one repeats, at most, in whole units; less than `room`.
    """
    found: list[tuple[int, int]] = []
    start = 0
    while True:
        end, held = start, 0
        while end < len(sizes) and (end == start or held + sizes[end] <= room):
            held += sizes[end]
            end += 1
        found.append((start, end))
        if end == len(sizes):
            return found
        following, repeated = end, 0
        while following - 1 > start and repeated + sizes[following - 1] <= stride:
            following -= 1
            repeated += sizes[following]
        while repeated + sizes[end] > room and following < end:  # else the next window would end where this one does
            repeated -= sizes[following]
            following += 1
        start = following


def speakers(found: Sequence[tuple[int, int]], count: int) -> list[int]:
    """For each of `count` units the number of the window in which it stands farthest from a cut.

    The ends of the text are no cuts; of equal windows the first speaks.
    """
    best: list[tuple[int, int]] = [(-1, 0)] * count
    for number, (start, end) in enumerate(found):
        for unit in range(start, end):
            left = count if start == 0 else unit - start
            right = count if end == count else end - 1 - unit
            if min(left, right) > best[unit][0]:
                best[unit] = (min(left, right), number)
    return [number for _, number in best]
