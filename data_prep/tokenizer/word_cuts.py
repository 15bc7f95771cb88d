"""Where text can be cut so that each part has the ids that it has in the whole.

BPE joins neighbours into pieces of the vocabulary and into nothing else. So a cut between two characters that no piece
holds side by side changes no id. Which neighbours there are is read off the vocabulary, in bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def joined_pairs(pieces: Iterable[str]) -> np.ndarray:
    """Which bytes stand side by side in some piece, or within a character.

    Args:
        pieces: the vocabulary, with spaces as they are, without bytes and tokens that are never in text.

    Returns:
        bool [256, 256], by the first byte and the second.
    """
    apart = 0xFF  # never in UTF-8
    data = np.frombuffer(bytes([apart]).join(piece.encode() for piece in pieces), np.uint8)
    joined = np.zeros((256, 256), bool)
    joined[data[:-1], data[1:]] = True
    joined[apart, :] = joined[:, apart] = False
    joined[0x80:, 0x80:0xC0] = True  # a byte of a character that goes on, and one that goes on with it
    return joined


def cut_before_spaces() -> np.ndarray:
    """As `joined_pairs` for vocabularies that never join a space with what is before it: cuts where spaces begin."""
    joined = np.ones((256, 256), bool)
    joined[:, 0x20] = False
    joined[0x20, 0x20] = True
    return joined


def cut(data: bytes, start: int, stop: int, joined: np.ndarray) -> np.ndarray:
    """Which bytes begin a part.

    Args:
        data: UTF-8.
        start: the first byte that counts.
        stop: one past the last.
        joined: what `joined_pairs` gave.

    Returns:
        bool [stop - start].
    """
    begins = np.ones(stop - start, bool)
    pairs = np.ndarray(max(0, stop - start - 1), ">u2", data, start, (1,))  # every two bytes, without a copy
    np.logical_not(joined.reshape(-1)[pairs], out=begins[1:])
    return begins


def cut_long(text: str, joined: np.ndarray, max_bytes: int) -> Iterator[str]:
    """Parts of at most `max_bytes`, or more where nothing can be cut for longer, with the ids of the whole.

    Args:
        text: what is too long for one call of an engine.
        joined: what `joined_pairs` gave.
        max_bytes: of a part, in UTF-8.
    """
    data = text.encode()
    start, window = 0, max_bytes
    while len(data) - start > window:
        # One byte more than fits in: it may be the first of the next part.
        places = np.flatnonzero(cut(data, start, start + window + 1, joined))
        if len(places) == 1:
            window *= 2
            continue
        end = start + int(places[-1])
        yield data[start:end].decode()
        start, window = end, max_bytes
    if start < len(data) or not data:
        yield data[start:].decode()
