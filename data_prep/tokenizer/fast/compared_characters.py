"""Which characters two libraries were seen to treat alike, asked of all at once or when a text first holds them.

A pattern tells characters apart by their category in Unicode, which libraries hold as ranges of code points. So
neighbouring code points of one category, at most 256, count as alike once the first and the last were compared. What
Unicode has not assigned, as Python knows it, is compared one by one, when a text holds it; so is what a text holds of a
range of which one differs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

_CODE_POINTS = 0x110000
_UNSEEN, _SAME, _OTHER = 0, 1, 2
_ASCII_BYTES = bytes(range(0x80))
_BLOCK = 256  # a range of one category may hold several scripts
Runs = list[tuple[int, int]]
"""Where what is known changes, and what it is from there on."""
_UNASSIGNED = ("Cn", "Cs")


class ComparedCharacters:
    """What is known of each code point; those of ASCII count as alike.

    Args:
        differing: which of some characters have other ids.
        runs: what another process knows, as `runs` gives it.
    """

    def __init__(self, differing: Callable[[Sequence[str]], list[str]], runs: Runs | None = None) -> None:
        self._differing = differing
        starts, values = zip(*(runs or [(0, _SAME), (0x80, _UNSEEN)]))
        self._known = np.repeat(np.array(values, np.uint8), np.diff([*starts, _CODE_POINTS]))

    def compare_assigned(self) -> None:
        """Compare the ends of all ranges of what Unicode has assigned, for private use too."""
        point, points = 0x80, []
        while point < _CODE_POINTS:
            if unicodedata.category(chr(point)) not in _UNASSIGNED:
                points.append(point)
                point = _of_one_category(point).stop
            else:
                point += 1
        self._compare_ranges(points)

    def runs(self) -> Runs:
        """All that is known."""
        changes = np.flatnonzero(np.diff(self._known, prepend=_OTHER + 1))
        return list(zip(changes.tolist(), self._known[changes].tolist()))

    def places(self, text: str) -> np.ndarray:
        """Which characters of a text have other ids: their numbers, in order, int64.

        Raises:
            UnicodeEncodeError: if the text holds half of a surrogate pair.
        """
        # What is left of UTF-8 without ASCII is UTF-8.
        other = text.encode().translate(None, _ASCII_BYTES).decode()
        if not other:
            return np.empty(0, np.int64)
        points = np.frombuffer(other.encode("utf-32-le"), np.uint32)
        known = self._known[points]
        if not known.all():
            self._compare(np.unique(points[known == _UNSEEN]).tolist())
            known = self._known[points]
        if not (known == _OTHER).any():
            return np.empty(0, np.int64)
        return np.flatnonzero(self._known[np.frombuffer(text.encode("utf-32-le"), np.uint32)] == _OTHER)

    def _compare(self, points: list[int]) -> None:
        """Compare the ranges that code points lie in, and these themselves where a range's end differs."""
        self._compare_ranges(points)
        alone = [point for point in points if self._known[point] == _UNSEEN]
        differing = self._differing_points(alone)
        self._known[alone] = _SAME
        self._known[list(differing)] = _OTHER

    def _compare_ranges(self, points: list[int]) -> None:
        ranges: list[range] = []
        asked: set[int] = set()
        for point in points:
            if ranges and point < ranges[-1].stop:
                continue
            ranges.append(_of_one_category(point))
            asked |= {ranges[-1].start, ranges[-1].stop - 1}
        differing = self._differing_points(sorted(asked))
        for alike in ranges:
            if not any(point in alike for point in differing):
                self._known[alike.start : alike.stop] = _SAME

    def _differing_points(self, points: list[int]) -> set[int]:
        return set(map(ord, self._differing([chr(point) for point in points if not 0xD800 <= point < 0xE000])))


def _of_one_category(point: int) -> range:
    """The code points around one, in its block, that have its category; of what Unicode has not assigned, the one."""
    category = unicodedata.category(chr(point))
    if category in _UNASSIGNED:
        return range(point, point + 1)
    begin = point - point % _BLOCK
    first, stop = point, point + 1
    while first > max(begin, 0x80) and unicodedata.category(chr(first - 1)) == category:
        first -= 1
    while stop < begin + _BLOCK and unicodedata.category(chr(stop)) == category:
        stop += 1
    return range(first, stop)
