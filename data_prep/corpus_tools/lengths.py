"""How long the documents of a corpus are: one histogram in flat memory for any number of them."""

from __future__ import annotations

import numpy as np

from data_prep.corpus.corpus import Corpus
from data_prep.corpus.shard_pieces import IndexPieces

_EXACT_BITS = 16
_STEPS = 1 << 10
_SIZE = (1 << _EXACT_BITS) + (63 - _EXACT_BITS) * _STEPS


class LengthHistogram:
    """Counts of lengths: each one below 65,536, above in steps of less than a thousandth.

    Attributes:
        documents: lengths counted.
        tokens: their sum.
        longest: the largest; 0 without any.
    """

    def __init__(self) -> None:
        self.documents = 0
        self.tokens = 0
        self.longest = 0
        self._counts = np.zeros(_SIZE, dtype=np.int64)
        self._sums = np.zeros(_SIZE, dtype=np.int64)

    @classmethod
    def of(cls, corpus: Corpus) -> LengthHistogram:
        """The lengths of all documents of a corpus, in tokens."""
        histogram = cls()
        for shard in corpus.shards:
            for _, starts in IndexPieces(shard).document_pieces():
                histogram.add(np.diff(starts))
        return histogram

    def add(self, lengths: np.ndarray) -> None:
        """Count lengths, int64 [n], none below 0."""
        if not len(lengths):
            return
        buckets, inverse = np.unique(_bucket(lengths), return_inverse=True)
        self._counts[buckets] += np.bincount(inverse)
        # As floats the sums are exact up to 2**53, which a single call does not reach.
        self._sums[buckets] += np.bincount(inverse, weights=lengths).astype(np.int64)
        self.documents += len(lengths)
        self.tokens += int(lengths.sum())
        self.longest = max(self.longest, int(lengths.max()))

    def quantile(self, share: float) -> int:
        """The length that `share` of the documents do not exceed; 0 without documents."""
        if share >= 1 or not self.documents:
            return self.longest
        wanted = max(1, int(np.ceil(share * self.documents)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), wanted))
        return min(self.longest, _lowest(bucket))

    def doublings(self) -> list[tuple[int, int, int, int]]:
        """Documents by length in ranges that double: (shortest, longest, documents, tokens) of each, none left out
        between the first and the last that has any.
        """
        rows = []
        for bits in range(self.longest.bit_length() + 1):
            low, high = (1 << bits - 1, (1 << bits) - 1) if bits else (0, 0)
            here = slice(_bucket_of(low), _bucket_of(high) + 1)
            rows.append((low, high, int(self._counts[here].sum()), int(self._sums[here].sum())))
        first = next((number for number, row in enumerate(rows) if row[2]), len(rows))
        return rows[first:]


def _bucket(lengths: np.ndarray) -> np.ndarray:
    lengths = np.asarray(lengths, dtype=np.int64)
    long = lengths >= 1 << _EXACT_BITS
    if not long.any():
        return lengths
    buckets = lengths.copy()
    # frexp is exact below 2**53: exponent is the number of bits.
    bits = np.frexp(lengths[long].astype(np.float64))[1].astype(np.int64) - 1
    buckets[long] = (1 << _EXACT_BITS) + (bits - _EXACT_BITS) * _STEPS + (lengths[long] >> bits - 10) - _STEPS
    return buckets


def _bucket_of(length: int) -> int:
    return int(_bucket(np.array([length]))[0])


def _lowest(bucket: int) -> int:
    """The shortest length of a bucket."""
    if bucket < 1 << _EXACT_BITS:
        return bucket
    bits, step = divmod(bucket - (1 << _EXACT_BITS), _STEPS)
    return (_STEPS + step) << bits + _EXACT_BITS - 10
