"""A table of short words and their ids, for many words at once: no Python object, no loop over words.

Words are compared byte by byte, not by their hash: a word of up to 24 bytes is three integers. Shape letters: W words,
K integers of a word, T ids, P places in the table.
"""

from __future__ import annotations

import numpy as np

MAX_WORD_BYTES = 24
_KEYS = MAX_WORD_BYTES // 8
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)  # odd, from xxHash
_BYTE = np.uint64(0xFF)


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
        self.words = self.used = 0
        self.ids = np.empty(4 << place_bits, np.int32)
        self._place_bits = place_bits
        # A row is one look into memory: the word, and where its ids begin (48 bits), their number (8) and its size (8).
        self._rows_PK = np.zeros((1 << place_bits, _KEYS + 1), np.uint64)

    def has_room(self, words: int, ids: int) -> bool:
        """Whether so many more fit in."""
        return self.words + words <= len(self._rows_PK) // 2 and self.used + ids <= len(self.ids)

    def find(self, keys_KW: np.ndarray, size_W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Look words up.

        Args:
            keys_KW: what `word_keys` gave.
            size_W: bytes of each word; longer ones than `MAX_WORD_BYTES` are never there.

        Returns:
            where in `ids` each word has its own, and how many, both int64 and 0 where it is not there; and the numbers
            of those that are not.
        """
        at_W, place_W = np.arange(len(size_W)), self._first_places(keys_KW)
        about_W, missing = np.zeros(len(size_W), np.uint64), [np.empty(0, np.int64)]
        while len(at_W):
            rows_WK = self._rows_PK.take(place_W, axis=0)
            same_W = _is_same(rows_WK, keys_KW, size_W, at_W)
            about_W[at_W[same_W]] = rows_WK[same_W, _KEYS]
            goes_on_W = ~same_W
            missing.append(at_W[goes_on_W & (rows_WK[:, _KEYS] == 0)])
            goes_on_W &= rows_WK[:, _KEYS] != 0
            at_W, place_W = at_W[goes_on_W], self._next_places(place_W[goes_on_W])
        count_W = (about_W >> np.uint64(8)) & _BYTE
        return (about_W >> np.uint64(16)).astype(np.int64), count_W.astype(np.int64), np.sort(np.concatenate(missing))

    def add(self, keys_KW: np.ndarray, size_W: np.ndarray, ids_T: np.ndarray, count_W: np.ndarray) -> None:
        """Put words in that are not there; the same word may come several times.

        Args:
            keys_KW: what `word_keys` gave.
            size_W: bytes of each word, at most `MAX_WORD_BYTES`.
            ids_T: ids of all words, one after the other.
            count_W: how many each word has, at most 255.
        """
        self.ids[self.used : self.used + len(ids_T)] = ids_T
        start_W = self.used + np.cumsum(count_W) - count_W
        about_W = (start_W << 16 | count_W << 8 | size_W).astype(np.uint64)
        at_W, place_W = np.arange(len(size_W)), self._first_places(keys_KW)
        while len(at_W):
            free_W = np.flatnonzero(self._rows_PK[place_W, _KEYS] == 0)
            # Of several words that want one place, the first gets it.
            taken, first = np.unique(place_W[free_W], return_index=True)
            who = at_W[free_W[first]]
            self._rows_PK[taken, :_KEYS] = keys_KW[:, who].T
            self._rows_PK[taken, _KEYS] = about_W[who]
            self.words += len(who)
            rest_W = ~_is_same(self._rows_PK.take(place_W, axis=0), keys_KW, size_W, at_W)
            at_W, place_W = at_W[rest_W], self._next_places(place_W[rest_W])
        self.used += len(ids_T)

    def _first_places(self, keys_KW: np.ndarray) -> np.ndarray:
        return (_mixed(keys_KW) >> np.uint64(64 - self._place_bits)).astype(np.int64)

    def _next_places(self, place_W: np.ndarray) -> np.ndarray:
        return (place_W + 1) & ((1 << self._place_bits) - 1)


def word_keys(data: bytes, start_W: np.ndarray, size_W: np.ndarray) -> np.ndarray:
    """The first `MAX_WORD_BYTES` bytes of each word as integers, uint64 [K, W], filled up with zeros.

    Args:
        data: the text, and `MAX_WORD_BYTES` more bytes.
        start_W: where each word begins.
        size_W: bytes of each word.
    """
    windows = np.ndarray(len(data) - 7, "<u8", data, 0, (1,))  # eight bytes from every byte on, without a copy
    keys_KW = np.zeros((_KEYS, len(start_W)), np.uint64)
    for number in range(_KEYS):
        # Most words end in the first eight bytes.
        at = np.flatnonzero(size_W > 8 * number) if number else slice(None)
        keys_KW[number, at] = windows[start_W[at] + 8 * number] & _LOW_BYTES[np.minimum(size_W[at] - 8 * number, 8)]
    return keys_KW


def distinct(keys_KW: np.ndarray, size_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of some short words are there first, and for each word which of these it is.

    Args:
        keys_KW: what `word_keys` gave.
        size_W: bytes of each word, at most `MAX_WORD_BYTES`.

    Returns:
        numbers of words; and for each word a place in these numbers; both int64. Rarely, a word is there several times.
    """
    _, first, which_W = np.unique(_mixed(keys_KW), return_index=True, return_inverse=True)
    one_W = first[which_W]
    if np.array_equal(keys_KW[:, one_W], keys_KW) and np.array_equal(size_W[one_W], size_W):
        return first, which_W
    every = np.arange(len(size_W))  # two words of one hash
    return every, every


def _mixed(keys_KW: np.ndarray) -> np.ndarray:
    """A hash of each word, uint64."""
    mixed_W = np.bitwise_xor.reduce(keys_KW * _FACTORS[:, None])
    mixed_W ^= mixed_W >> np.uint64(32)
    mixed_W *= _FACTORS[0]
    return mixed_W


def _is_same(rows_WK: np.ndarray, keys_KW: np.ndarray, size_W: np.ndarray, at_W: np.ndarray) -> np.ndarray:
    """For some of the words, those at `at_W`: whether each is the one in its row."""
    same_W = (rows_WK[:, _KEYS] & _BYTE).astype(np.int64) == size_W[at_W]
    for number, key_W in enumerate(keys_KW):
        same_W &= rows_WK[:, number] == key_W[at_W]
    return same_W
