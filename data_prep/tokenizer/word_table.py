"""A table of short words and their ids, for many words at once: no Python object, no loop over words.

Words are compared byte by byte, not by their hash: a word of up to 24 bytes is three integers. Shape letters: W words,
T ids, C places in the table.
"""

from __future__ import annotations

import numpy as np

MAX_WORD_BYTES = 24
_KEYS = MAX_WORD_BYTES // 8
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)  # odd, from xxHash


class WordTable:
    """Words, and where their ids lie in `ids`. Open addressing, at most half full; what is in it stays.

    Args:
        place_bits: 2 to this power places.

    Attributes:
        words: how many there are.
        ids: ids of all words, one after the other, int32; only the first `used` mean something.
        used: how many ids there are.
    """

    def __init__(self, place_bits: int) -> None:
        places = 1 << place_bits
        self._place_bits = place_bits
        self.words = self.used = 0
        self.ids = np.empty(4 * places, np.int32)
        self._keys_CK = np.zeros((places, _KEYS), np.uint64)
        self._bytes_C = np.zeros(places, np.uint8)
        self._start_C = np.zeros(places, np.int32)
        self._count_C = np.zeros(places, np.int32)

    def has_room(self, words: int, ids: int) -> bool:
        """Whether so many more fit in."""
        return self.words + words <= len(self._bytes_C) // 2 and self.used + ids <= len(self.ids)

    def find(self, keys_KW: np.ndarray, size_W: np.ndarray) -> np.ndarray:
        """Place of each word, int64 [W]; -1 where it is not in the table.

        Args:
            keys_KW: what `word_keys` gave.
            size_W: bytes of each word; longer ones than `MAX_WORD_BYTES` are never there.
        """
        found_W = np.full(len(size_W), -1, np.int64)
        at_W, place_W = np.arange(len(size_W)), self._first_places(keys_KW)
        while len(at_W):
            same_W = self._is_there(place_W, keys_KW, size_W, at_W)
            found_W[at_W[same_W]] = place_W[same_W]
            goes_on_W = ~same_W & (self._bytes_C[place_W] != 0)
            at_W, place_W = at_W[goes_on_W], self._next_places(place_W[goes_on_W])
        return found_W

    def ids_of(self, place_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `ids` the words at these places have theirs, and how many; anything where the place is -1."""
        return self._start_C[place_W], self._count_C[place_W]

    def add(self, keys_KW: np.ndarray, size_W: np.ndarray, ids_T: np.ndarray, count_W: np.ndarray) -> None:
        """Put words in that are not there; the same word may come several times.

        Args:
            keys_KW: what `word_keys` gave.
            size_W: bytes of each word, at most `MAX_WORD_BYTES`.
            ids_T: ids of all words, one after the other.
            count_W: how many each word has.
        """
        self.ids[self.used : self.used + len(ids_T)] = ids_T
        start_W = self.used + np.cumsum(count_W) - count_W
        at_W, place_W = np.arange(len(size_W)), self._first_places(keys_KW)
        while len(at_W):
            free_W = np.flatnonzero(self._bytes_C[place_W] == 0)
            # Of several words that want one place, the first gets it.
            taken, first = np.unique(place_W[free_W], return_index=True)
            who = at_W[free_W[first]]
            self._keys_CK[taken] = keys_KW[:, who].T
            self._bytes_C[taken] = size_W[who]
            self._start_C[taken] = start_W[who]
            self._count_C[taken] = count_W[who]
            self.words += len(who)
            rest_W = ~self._is_there(place_W, keys_KW, size_W, at_W)
            at_W, place_W = at_W[rest_W], self._next_places(place_W[rest_W])
        self.used += len(ids_T)

    def _is_there(self, places: np.ndarray, keys_KW: np.ndarray, size_W: np.ndarray, at: np.ndarray) -> np.ndarray:
        """For some of the words, those at `at`: whether each is the one at its place."""
        same = self._bytes_C[places] == size_W[at]
        for number, key_W in enumerate(keys_KW):
            same &= self._keys_CK[places, number] == key_W[at]
        return same

    def _first_places(self, keys_KW: np.ndarray) -> np.ndarray:
        mixed_W = np.bitwise_xor.reduce(keys_KW * _FACTORS[:, None])
        mixed_W ^= mixed_W >> np.uint64(32)
        mixed_W *= _FACTORS[0]
        return (mixed_W >> np.uint64(64 - self._place_bits)).astype(np.int64)

    def _next_places(self, places: np.ndarray) -> np.ndarray:
        return (places + 1) & ((1 << self._place_bits) - 1)


def word_keys(data: bytes, start_W: np.ndarray, size_W: np.ndarray) -> np.ndarray:
    """The first `MAX_WORD_BYTES` bytes of each word as integers, uint64 [K, W], filled up with zeros.

    Args:
        data: the text, and `MAX_WORD_BYTES` more bytes.
        start_W: where each word begins.
        size_W: bytes of each word.
    """
    # Eight bytes from every byte on, without a copy.
    windows = np.ndarray(len(data) - 7, "<u8", data, 0, (1,))
    keys_KW = np.empty((_KEYS, len(start_W)), np.uint64)
    for number in range(_KEYS):
        keys_KW[number] = windows[start_W + 8 * number]
        keys_KW[number] &= _LOW_BYTES[np.clip(size_W - 8 * number, 0, 8)]
    return keys_KW
