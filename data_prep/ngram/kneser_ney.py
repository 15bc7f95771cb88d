"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, with the counts of Heafield et al. 2013).

The probability of a token after a history of k - 1 tokens is (a - D(a)) / sum(a) plus what the discounts D took away,
handed out by the model of the k - 2 last tokens; below single tokens lies the uniform distribution over the vocabulary.
a is the count of the n-gram for the longest ones, and for the shorter ones the number of different tokens that they
follow. D has three values per length, for counts of 1, 2, and 3 or more, estimated from how many n-grams have the
counts 1 to 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_prep.ngram.ngram_counts import Level, Stream, adjusted_counts, first_level, next_level

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as KenLM's `--discount_fallback` has them."""


@dataclass(frozen=True)
class Discounts:
    """What is taken from counts of 1, 2, and 3 or more.

    Attributes:
        values: the three.
        estimated: whether they come from the counts; if not, they are `FALLBACK`.
    """

    values: tuple[float, float, float]
    estimated: bool

    @classmethod
    def of(cls, counts: np.ndarray) -> Discounts:
        """Estimate them from the counts of n-grams of one length, int64 [ngrams]; zeros do not count."""
        with_count = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
        if min(with_count) == 0:
            return cls(FALLBACK, False)
        y = with_count[0] / (with_count[0] + 2 * with_count[1])
        values = tuple(n - (n + 1) * y * with_count[n] / with_count[n - 1] for n in (1, 2, 3))
        if not all(0 < value <= n for n, value in zip((1, 2, 3), values)):
            return cls(FALLBACK, False)
        return cls((values[0], values[1], values[2]), True)

    def table(self) -> np.ndarray:
        """The discount of counts 0, 1, 2, and 3 or more, float64 [4]."""
        return np.array([0.0, *self.values])


@dataclass(frozen=True)
class OrderScore:
    """How well n-grams of up to one length predict the held-out documents.

    Attributes:
        order: the length.
        ngrams: how many different ones of it the training documents have.
        loss_nats: mean of -log(probability) over all held-out tokens.
        discounts: those of the longest n-grams.
    """

    order: int
    ngrams: int
    loss_nats: float
    discounts: Discounts


class Predictor:
    """Probabilities of the tokens of held-out documents, length after length.

    Args:
        training: what is counted.
        held_out: what is predicted.

    Attributes:
        places: where in the held-out stream the predicted tokens stand, int64 [tokens].
        lower: probability of each by the n-grams up to the last length, as a longer model interpolates with it,
            float64 [tokens].
    """

    def __init__(self, training: Stream, held_out: Stream) -> None:
        self.training = training
        self.places = np.flatnonzero(held_out.tokens != held_out.vocab_size)
        self._last = held_out.tokens[self.places].astype(np.int64)
        self.lower = np.full(len(self.places), 1.0 / training.vocab_size)
        # The history of each predicted token at the level below, and the n-gram that ends at each place; -1: unseen.
        self._histories = np.zeros(len(self.places), dtype=np.int64)
        self._ends = np.zeros(len(held_out.tokens), dtype=np.int64)
        self._ends[:] = held_out.tokens

    def predict(self, max_order: int) -> Iterator[tuple[OrderScore, np.ndarray]]:
        """The models of length 1 up to `max_order`: score, and the probability of each token, float64 [tokens]."""
        level = first_level(self.training)
        for order in range(1, max_order + 1):
            found = level.find(np.where(self._histories >= 0, self._histories * level.width + self._last, -1))
            probabilities, discounts = self._probabilities(level, adjusted_counts(level, None), found)
            ngrams = int(np.count_nonzero(level.counts)) - int(order == 1)  # the begin token is none
            yield OrderScore(order, ngrams, float(-np.log(probabilities).mean()), discounts), probabilities
            if order == max_order:
                return
            above = next_level(self.training, level)
            level.numbers = np.empty(0, dtype=np.int32)
            self.lower = self._probabilities(level, adjusted_counts(level, above), found)[0]
            self._advance(level, found)
            level = above

    def _probabilities(self, level: Level, counts: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, Discounts]:
        """Of each predicted token, by n-grams up to this level's length, float64 [tokens]."""
        discounts = Discounts.of(counts)
        taken = discounts.table()[np.minimum(counts, 3)]
        # The n-grams of one history lie side by side: sums over them are differences of running sums.
        sums = np.concatenate([[0], np.cumsum(counts)])
        taken_sums = np.concatenate([[0.0], np.cumsum(taken)])
        known = np.flatnonzero(self._histories >= 0)
        first = np.searchsorted(level.keys, self._histories[known] * level.width)
        end = np.searchsorted(level.keys, (self._histories[known] + 1) * level.width)
        total = sums[end] - sums[first]
        # A history that only ends documents is followed by nothing.
        followed = total > 0
        known, first, end, total = known[followed], first[followed], end[followed], total[followed]
        result = self.lower.copy()
        result[known] *= (taken_sums[end] - taken_sums[first]) / total
        seen = found[known]
        result[known] += np.where(seen >= 0, (counts[seen] - taken[seen]) / total, 0.0)
        return result, discounts

    def _advance(self, level: Level, found: np.ndarray) -> None:
        """The n-grams found become the histories of the next level."""
        if level.order > 1:
            self._ends[:] = -1
            self._ends[self.places] = found
        self._histories = self._ends[self.places - 1]
