"""Where text can be cut so that each part has the ids that it has in the whole.

BPE joins neighbours into pieces of the vocabulary and into nothing else. So a cut between two characters that no piece
holds side by side changes no id. Which neighbours there are is read off the vocabulary, in bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def joined_pairs(pieces: Iterable[str]) -> np.ndarray | None:
    """Which bytes stand side by side in some piece, or may do so within a character.

    Args:
        pieces: the vocabulary of a BPE, with spaces as they are, without bytes and tokens that are never in text.

    Returns:
        bool [256 * 256], by the first byte times 256 plus the second. None for a vocabulary with a line break beside
        something else in a piece: those who use this put words on lines.
    """
    texts = list(pieces)
    if any("\n" in text and text != "\n" for text in texts):
        return None
    data = "\n".join(texts).encode()
    joined = np.zeros((256, 256), bool)
    joined[np.frombuffer(data[:-1], np.uint8), np.frombuffer(data[1:], np.uint8)] = True
    joined[:, ord("\n")] = joined[ord("\n"), :] = False
    joined[:, 0x80:0xC0] = True  # bytes that go on with a character
    return joined.reshape(-1)


def cut(data: bytes, size: int, joined: np.ndarray) -> np.ndarray:
    """Which bytes begin a part.

    Args:
        data: UTF-8.
        size: how many bytes of it count.
        joined: what `joined_pairs` gave.

    Returns:
        bool [size].
    """
    begins = np.ones(size, bool)
    pairs = np.ndarray(max(0, size - 1), ">u2", data, 0, (1,))  # every two bytes, without a copy
    np.logical_not(joined[pairs], out=begins[1:])
    return begins
