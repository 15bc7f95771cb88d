"""The endless row of tokens that a token stream cuts into windows.

At first it is epoch after epoch of shuffled documents. Where a corpus is cut anew in the middle of an epoch, the row
that follows is what the windows read so far have left: the rest of the epoch in pieces, laid end to end, then all that
comes after it. Such a row can be cut anew in its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import numpy as np

from pretrain.data.corpus_tokens import BEGINS_DOCUMENT, JOINED, Stretch
from pretrain.data.documents import Documents, EpochOrders
from pretrain.data.index_file import Allocate, Arrays

_CHUNK = 1 << 20


class TokenRow(Protocol):
    """Tokens by their place, from 0 without end, in groups; windows that begin in one group are shuffled together."""

    identity: str
    """Says what the row is, beside the documents."""
    has_joins: bool
    """Whether `stretches` may have any that are `JOINED`."""

    def group(self, place: int) -> int:
        """Number of the group in which `place` lies."""
        ...

    def groups(self, places: np.ndarray) -> np.ndarray:
        """The same for many, int64 [n]."""
        ...

    def span(self, group: int) -> tuple[int, int]:
        """The first place of a group and the first behind it."""
        ...

    def key(self, group: int) -> tuple[int | str, ...]:
        """What decides the order of the group's windows, beside the stream's own key."""
        ...

    def stretches(self, begins: np.ndarray, ends: np.ndarray) -> list[list[Stretch]]:
        """The stretches of documents in each of the ranges [begin, end), int64 [n]; each shorter than an epoch."""
        ...

    def num_joins(self, begins: np.ndarray, ends: np.ndarray) -> int:
        """How many tokens within the ranges, of which the first are not counted, are `JOINED`."""
        ...

    def epoch_end(self, place: int) -> int:
        """Where the epoch ends in which `place` lies."""
        ...

    def prepare(self, place: int) -> None:
        """Have at hand what reading on from `place` needs."""
        ...


class EpochRow:
    """Epoch after epoch of all documents, each shuffled anew; an epoch is a group.

    Args:
        documents: at least one.
        key: decides their orders.
    """

    has_joins = False

    def __init__(self, documents: Documents, *key: int | str) -> None:
        self.identity = f"the epochs of {' '.join(map(str, key))}"
        self._num_tokens = documents.num_tokens
        self._orders = EpochOrders(documents, *key)

    def group(self, place: int) -> int:
        """See `TokenRow`."""
        return place // self._num_tokens

    def groups(self, places: np.ndarray) -> np.ndarray:
        """See `TokenRow`."""
        return places // self._num_tokens

    def span(self, group: int) -> tuple[int, int]:
        """See `TokenRow`."""
        return group * self._num_tokens, (group + 1) * self._num_tokens

    def key(self, group: int) -> tuple[int | str, ...]:
        """See `TokenRow`."""
        return (group,)

    def num_joins(self, begins: np.ndarray, ends: np.ndarray) -> int:
        """See `TokenRow`."""
        return 0

    def epoch_end(self, place: int) -> int:
        """See `TokenRow`."""
        return self.span(self.group(place))[1]

    def prepare(self, place: int) -> None:
        """See `TokenRow`."""
        self._orders.order(self.group(place))

    def stretches(self, begins: np.ndarray, ends: np.ndarray) -> list[list[Stretch]]:
        """See `TokenRow`."""
        num_tokens = self._num_tokens
        epochs = begins // num_tokens
        places, stops = begins - epochs * num_tokens, ends - epochs * num_tokens
        found: list[list[Stretch]] = [[]] * len(begins)
        for epoch in np.unique(epochs).tolist():
            rows = np.flatnonzero(epochs == epoch)
            within = np.minimum(stops[rows], num_tokens)
            for row, stretches in zip(rows.tolist(), _cut(self._orders.order(epoch), places[rows], within)):
                found[row] = stretches
            for row in rows[stops[rows] > num_tokens].tolist():
                # The next epoch's first documents; its whole order need not be there yet.
                rest = int(stops[row]) - num_tokens
                head = self._orders.head(epoch + 1, rest)
                found[row] += _cut(head, np.array([0]), np.array([rest]))[0]
        return found


class RestRow:
    """What is left of another row when windows of it were read: pieces of the group that was being read, then the rest.

    A piece goes on for `overlap` tokens beyond what is left to read, so that the last of that has its label.

    Args:
        row: the other one.
        documents: keep the pieces of a large corpus in an index file.
        stride: tokens by which the windows began one after the other.
        taken: how many windows were read.
        order: gives, for a group and its number of windows, the order in which they were read.
        overlap: tokens that the windows to come have in common with the next.
    """

    has_joins = True

    def __init__(
        self,
        row: TokenRow,
        documents: Documents,
        stride: int,
        taken: int,
        order: Callable[[int, int], Callable[[np.ndarray], np.ndarray]],
        overlap: int,
    ) -> None:
        self._row = row
        self.identity = f"what {taken} windows of {stride} leave of {row.identity}, {overlap} more of each piece"
        group = row.group(taken * stride)
        begin, end = (-(-place // stride) for place in row.span(group))
        if taken == begin:
            pieces = {"place": np.array([taken * stride]), "start": np.zeros(1, dtype=np.int64)}
        else:

            def build(allocate: Allocate) -> None:
                _fill(allocate, order(group, end - begin), taken - begin, begin, end, stride, overlap)

            pieces = documents.built("rest", self.identity, build)
        self._place, self._start = pieces["place"], pieces["start"]
        self._tail, self._length = int(self._place[-1]), int(self._start[-1])
        self._first_group = row.group(self._tail)

    def rest_of_epoch(self) -> tuple[int, int]:
        """Tokens that are left of the epoch, and the number of pieces of text that they are in."""
        end = self.epoch_end(0)
        return end, 1 + self.num_joins(np.array([0]), np.array([end]))

    def epoch_end(self, place: int) -> int:
        """See `TokenRow`."""
        if place < self._length:
            end = self._row.epoch_end(int(self._place[0]))
            return self._length + max(0, end - self._tail)
        return self._row.epoch_end(self._tail + place - self._length) - self._tail + self._length

    def group(self, place: int) -> int:
        """See `TokenRow`."""
        if place < self._length:
            return 0
        return 1 + self._row.group(self._tail + place - self._length) - self._first_group

    def groups(self, places: np.ndarray) -> np.ndarray:
        """See `TokenRow`."""
        behind = np.maximum(self._tail + places - self._length, self._tail)
        return np.where(places < self._length, 0, 1 + self._row.groups(behind) - self._first_group)

    def span(self, group: int) -> tuple[int, int]:
        """See `TokenRow`."""
        if group == 0:
            return 0, self._length
        begin, end = self._row.span(self._first_group + group - 1)
        shift = self._length - self._tail
        return max(begin, self._tail) + shift, end + shift

    def key(self, group: int) -> tuple[int | str, ...]:
        """See `TokenRow`."""
        return self.identity, group

    def prepare(self, place: int) -> None:
        """See `TokenRow`."""
        self._row.prepare(int(self._place[0]) if place < self._length else self._tail + place - self._length)

    def stretches(self, begins: np.ndarray, ends: np.ndarray) -> list[list[Stretch]]:
        """See `TokenRow`."""
        counts, firsts, behind, is_joined = self._split(begins, ends)
        parts = self._row.stretches(firsts, behind)
        for number in np.flatnonzero(is_joined).tolist():
            source, length, first = parts[number][0]
            parts[number][0] = (source, length, first | JOINED)
        bounds = np.cumsum([0, *counts]).tolist()
        return [[stretch for part in parts[a:b] for stretch in part] for a, b in pairwise(bounds)]

    def num_joins(self, begins: np.ndarray, ends: np.ndarray) -> int:
        """See `TokenRow`."""
        counts, firsts, behind, _ = self._split(begins, ends)
        return int((counts - 1).sum()) + self._row.num_joins(firsts, behind)

    def _split(self, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The ranges of the other row that the ranges [begin, end) consist of.

        Returns:
            How many for each, int64 [n]; of all of them their begins and ends, and whether each is joined to what is
            before it.
        """
        first = self._start.searchsorted(begins, side="right") - 1
        counts = self._start.searchsorted(ends, side="left") - first
        numbers = np.arange(int(counts.sum())) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        starts = self._start[numbers]
        last = len(self._start) - 1
        stops = np.where(numbers < last, self._start[np.minimum(numbers + 1, last)], np.iinfo(np.int64).max)
        low, high = np.maximum(starts, np.repeat(begins, counts)), np.minimum(stops, np.repeat(ends, counts))
        places = self._place[numbers] + low - starts
        return counts, places, places + high - low, (low == starts) & (starts > 0)


def _fill(
    allocate: Allocate,
    order: Callable[[np.ndarray], np.ndarray],
    taken: int,
    begin: int,
    end: int,
    stride: int,
    overlap: int,
) -> None:
    """Pieces of the windows [begin, end) of which the first `taken` in their order were read.

    `place`: of each piece in the row, and at last from where on the row is left whole; `start`: where each of them
    begins in what is left.
    """
    # A window before the first and one behind the last, both read.
    is_left = np.ones(end - begin + 2, dtype=np.bool_)
    is_left[[0, -1]] = False
    for number in range(0, taken, _CHUNK):
        is_left[1 + order(np.arange(number, min(number + _CHUNK, taken)))] = False
    edges = np.flatnonzero(is_left[1:] != is_left[:-1])
    firsts, behind = begin + edges[::2], begin + edges[1::2]
    tail = end
    if len(behind) and behind[-1] == end:
        # The last piece and what follows the epoch are one text.
        tail, firsts, behind = int(firsts[-1]), firsts[:-1], behind[:-1]
    arrays = allocate({"place": len(firsts) + 1, "start": len(firsts) + 1})
    arrays["place"][:-1], arrays["place"][-1] = firsts * stride, tail * stride
    arrays["start"][0] = 0
    np.cumsum((behind - firsts) * stride + overlap, out=arrays["start"][1:])


def _cut(order: Arrays, places: np.ndarray, ends: np.ndarray) -> list[list[Stretch]]:
    """The documents in each of the ranges [place, end) of an epoch, cut at its two ends."""
    firsts = order["start"].searchsorted(places, side="right") - 1
    lasts = order["start"].searchsorted(ends, side="left")
    found = []
    for place, end, first, last in zip(places.tolist(), ends.tolist(), firsts.tolist(), lasts.tolist()):
        bounds = order["start"][first : last + 1].tolist()
        sources = order["source"][first:last].tolist()
        skipped = place - bounds[0]
        bounds[0], bounds[-1] = place, end
        stretches = [
            (source, stop - begin, BEGINS_DOCUMENT) for source, begin, stop in zip(sources, bounds, bounds[1:])
        ]
        if skipped:
            stretches[0] = (sources[0] + skipped, bounds[1] - place, 0)
        found.append(stretches)
    return found
