"""Which corpus of a mixture gives sample n, and which of that corpus' samples it is: arithmetic, no state, no replay.

The shares are brought to a common denominator D. Within a period of D samples every corpus occurs exactly its share
of times, spread out so that after any number of samples each corpus has given the ideal count rounded down or up.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from configs.errors import ConfigError

MAX_PERIOD = 1 << 17


class Blend:
    """The order in which the corpora of a mixture give samples.

    After n samples corpus i has given floor or ceil of n * shares[i] of them, for every n.

    Args:
        weights: relative weights, each above 0. They are taken as the decimal numbers that they print as. Weights
            whose common denominator is above 131,072 are rounded to 131,072ths of the whole.

    Raises:
        ConfigError: if a weight is so small beside the others that its share rounds to nothing.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.counts = np.array(_integer_weights(weights), dtype=np.int64)
        """How often each corpus occurs in a period, int64 [corpora]."""
        self.period = int(self.counts.sum())
        """Samples after which the order of corpora repeats."""
        self._corpus = _period_order([int(count) for count in self.counts])
        self._rank = np.empty(self.period, dtype=np.int64)
        for corpus, count in enumerate(self.counts):
            self._rank[self._corpus == corpus] = np.arange(count)

    @property
    def shares(self) -> np.ndarray:
        """Share of the samples that each corpus gives, float64 [corpora], summing to 1."""
        return self.counts / self.period

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which corpus gives each sample, and its number within that corpus.

        Args:
            numbers: sample numbers of the run, int64 [n], from 0.

        Returns:
            Corpus positions, int64 [n], and numbers within them, int64 [n].
        """
        periods, slots = np.divmod(np.asarray(numbers, dtype=np.int64), self.period)
        corpora = self._corpus[slots]
        return corpora, periods * self.counts[corpora] + self._rank[slots]

    def given(self, count: int) -> np.ndarray:
        """How many of the first `count` samples each corpus has given, int64 [corpora]."""
        periods, slots = divmod(count, self.period)
        return periods * self.counts + np.bincount(self._corpus[:slots], minlength=len(self.counts))


def _integer_weights(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the same proportion, whose sum is at most MAX_PERIOD."""
    exact = [Fraction(str(float(weight))) for weight in weights]
    denominator = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * denominator) for weight in exact]
    divisor = math.gcd(*whole)
    whole = [weight // divisor for weight in whole]
    total = sum(whole)
    if total <= MAX_PERIOD:
        return whole
    counts = [weight * MAX_PERIOD // total for weight in whole]
    by_remainder = sorted(range(len(whole)), key=lambda i: (-(whole[i] * MAX_PERIOD % total), i))
    for i in by_remainder[: MAX_PERIOD - sum(counts)]:
        counts[i] += 1
    if min(counts) == 0:
        smallest = weights[counts.index(0)]
        raise ConfigError(
            f"the weight {smallest} is {smallest / sum(weights):.1e} of the mixture",
            where="weights of a data mixture",
            expected=f"a share of at least 1/{MAX_PERIOD} for every corpus; leave out those that hardly count",
        )
    return counts


def _period_order(counts: list[int]) -> np.ndarray:
    """Corpus of each slot of a period, int64 [sum(counts)].

    Occurrence j of a corpus with share s may lie in slots [floor(j / s), ceil((j + 1) / s)). Of those whose time has
    come the one with the earliest end goes first: that meets every end, since the shares sum to 1.
    """
    period = sum(counts)
    order = np.empty(period, dtype=np.int64)
    given = [0] * len(counts)
    coming = [(0, i) for i in range(len(counts))]
    ready: list[tuple[int, int]] = []
    for slot in range(period):
        while coming and coming[0][0] <= slot:
            _, i = heapq.heappop(coming)
            heapq.heappush(ready, (-(-(given[i] + 1) * period // counts[i]), i))
        _, i = heapq.heappop(ready)
        order[slot] = i
        given[i] += 1
        if given[i] < counts[i]:
            heapq.heappush(coming, (given[i] * period // counts[i], i))
    return order
