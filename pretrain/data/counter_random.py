"""Random numbers without state: a function of a key, a number and a counter."""

from __future__ import annotations

import numpy as np

from data_prep.corpus.split import hash_numbers
from pretrain.data.permutation import derive_key


class CounterRandom:
    """64 random bits for each pair (number, counter), such as (sample number, position); the key decides which.

    The bits are a hash (two rounds of SplitMix64's finalizer), the same in every version of every library. Numbers and
    counters are int64 arrays that broadcast.

    Args:
        key: what decides the draws, such as a seed and what they are for; different keys give unrelated draws.
    """

    def __init__(self, *key: int | str) -> None:
        self._key = np.frombuffer(derive_key(*key)[:8], dtype="<u8").astype(np.uint64)[0]

    def bits(self, numbers: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """uint64, of the shape that the two arrays broadcast to."""
        return hash_numbers(hash_numbers(numbers.astype(np.uint64) ^ self._key) ^ hash_numbers(counters))

    def uniform(self, numbers: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """Uniform in [0, 1), float64, of the shape that the two arrays broadcast to."""
        return (self.bits(numbers, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, limits: np.ndarray | int, numbers: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """Uniform whole numbers in [0, limit), int64; limits, at least 1 and below 2**53, broadcast, too."""
        return (self.uniform(numbers, counters) * limits).astype(np.int64)
