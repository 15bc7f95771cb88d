"""A seeded shuffle of any size that keeps no state: where each element goes is computed, not stored.

A Feistel network permutes the numbers of k bits; what falls outside [0, size) is sent through again until it falls
inside ("cycle walking"), which keeps the map one-to-one. It is ours, not a library's generator, so that the order of
a run does not change with a version of something else.
"""

from __future__ import annotations

import hashlib

import numpy as np

_HALF_ROUNDS = 8
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HALF_WORD = np.uint64(32)
_CHUNK = 1 << 15


def derive_key(*parts: int | str) -> bytes:
    """32 bytes that depend on every part, and on where one part ends and the next begins."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=32).digest()


class Permutation:
    """A one-to-one map of [0, size) onto itself that a key decides.

    Args:
        size: how many elements, at least 1 and below 2**62.
        key: what decides the order, such as a seed and an epoch; different keys give unrelated orders.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        if not 1 <= size < 1 << 62:
            raise ValueError(f"size {size} is not in [1, 2**62)")
        self.size = size
        bits = (size - 1).bit_length()
        self._low_bits = np.uint64((bits + 1) // 2)
        self._low_mask = np.uint64((1 << ((bits + 1) // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits // 2)) - 1)
        digest = hashlib.blake2b(derive_key(*key), digest_size=8 * _HALF_ROUNDS).digest()
        self._round_keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Where each of `numbers` goes, int64 [n] -> int64 [n].

        Raises:
            IndexError: if a number is outside [0, size).
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= self.size):
            raise IndexError(f"numbers in [{numbers.min()}, {numbers.max()}] of a permutation of {self.size}")
        result = np.empty_like(numbers)
        # In pieces that stay in the processor's cache.
        for start in range(0, len(numbers), _CHUNK):
            result[start : start + _CHUNK] = self._walk(numbers[start : start + _CHUNK].astype(np.uint64))
        return result

    def _walk(self, x: np.ndarray) -> np.ndarray:
        x = self._scramble(x)
        outside = np.flatnonzero(x >= self.size)
        while outside.size:
            x[outside] = self._scramble(x[outside])
            outside = outside[x[outside] >= self.size]
        return x

    def _scramble(self, x: np.ndarray) -> np.ndarray:
        low, high = x & self._low_mask, x >> self._low_bits
        for position, key in enumerate(self._round_keys):
            if position % 2 == 0:
                read, written, mask = low, high, self._high_mask
            else:
                read, written, mask = high, low, self._low_mask
            # written ^= top half of (read ^ key) * multiplier, without intermediate arrays.
            mixed = read ^ key
            mixed *= _MULTIPLIER
            mixed >>= _HALF_WORD
            mixed &= mask
            written ^= mixed
        high <<= self._low_bits
        high |= low
        return high
