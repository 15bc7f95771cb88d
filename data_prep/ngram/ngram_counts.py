"""The n-grams of a stream of documents: which there are and how often, one length after the other, in sorted arrays.

An n-gram of length k is written as the number of its first k - 1 tokens among the n-grams of that length, times the
number of tokens, plus its last token: one 64-bit key, whatever k is. So a sort finds the distinct ones, a binary
search finds one of them, and those with one history lie side by side.

Documents are laid end to end with a begin token in front of each; no n-gram reaches over it. It is a history only and
never predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SEARCH_CHUNK = 1 << 20


@dataclass(frozen=True)
class Stream:
    """Documents laid end to end, a begin token in front of each.

    Attributes:
        tokens: int32 [tokens + documents]; the begin token is `vocab_size`.
        vocab_size: ids are below it.
        documents: how many.
    """

    tokens: np.ndarray
    vocab_size: int
    documents: int

    @property
    def num_tokens(self) -> int:
        """Tokens without the begin tokens: those that are predicted."""
        return len(self.tokens) - self.documents


@dataclass
class Level:
    """All n-grams of one length.

    Attributes:
        order: their length k.
        width: vocab_size + 1, the number of different last tokens with the begin token.
        keys: sorted, int64 [ngrams]: number of the history at level k - 1, times `width`, plus the last token.
        counts: how often each occurs, int64 [ngrams].
        begins: whether each starts with the begin token, bool [ngrams].
        suffixes: number at level k - 1 of each without its first token, int32 [ngrams]; empty at level 1.
        numbers: the n-gram that ends at each place of the stream, int32 [stream]; -1 where a document is too short.
    """

    order: int
    width: int
    keys: np.ndarray
    counts: np.ndarray
    begins: np.ndarray
    suffixes: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Number of the n-gram with each key, -1 where there is none, int64 [n] -> int64 [n]."""
        found = np.empty(len(keys), dtype=np.int64)
        for start in range(0, len(keys), _SEARCH_CHUNK):
            wanted = keys[start : start + _SEARCH_CHUNK]
            at = np.searchsorted(self.keys, wanted)
            at[at == len(self.keys)] = 0
            found[start : start + _SEARCH_CHUNK] = np.where(self.keys[at] == wanted, at, -1)
        return found


def first_level(stream: Stream) -> Level:
    """The single tokens; every id of the vocabulary has an entry, and the begin token the last one."""
    width = stream.vocab_size + 1
    begins = np.zeros(width, dtype=np.bool_)
    begins[-1] = True
    counts = np.bincount(stream.tokens, minlength=width)
    return Level(1, width, np.arange(width), counts, begins, np.empty(0, dtype=np.int32), stream.tokens)


def next_level(stream: Stream, below: Level) -> Level:
    """The n-grams one token longer than those of `below`."""
    # A place counts when the history that ends before it is whole, and the place is no begin token.
    ends = np.flatnonzero((below.numbers[:-1] >= 0) & (stream.tokens[1:] != stream.vocab_size)) + 1
    ends = ends.astype(np.int32 if len(stream.tokens) < 2**31 else np.int64)
    keys = below.numbers[ends - 1].astype(np.int64)
    keys *= below.width
    keys += stream.tokens[ends]
    order = np.argsort(keys)
    keys = keys[order]
    ends = ends[order]
    del order
    is_first = np.empty(len(keys), dtype=np.bool_)
    is_first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    numbers = np.full(len(stream.tokens), -1, dtype=np.int32)
    numbers[ends] = np.cumsum(is_first, dtype=np.int32) - 1
    counts = np.diff(np.append(starts, len(keys)))
    first_ends = ends[starts]
    return Level(
        order=below.order + 1,
        width=below.width,
        keys=keys[starts],
        counts=counts,
        begins=stream.tokens[first_ends - below.order] == stream.vocab_size,
        suffixes=below.numbers[first_ends],
        numbers=numbers,
    )


def adjusted_counts(level: Level, above: Level | None) -> np.ndarray:
    """In how many different tokens' wake each n-gram occurs, int64 [ngrams].

    That is what Kneser-Ney estimates all but the longest n-grams from. An n-gram that starts with the begin token has
    nothing before it and keeps its own count; the begin token itself is never predicted and has none.

    Args:
        level: the n-grams.
        above: those one token longer; None: `level` is the longest, and its counts are taken as they are.
    """
    counts = level.counts.copy() if above is None else np.bincount(above.suffixes, minlength=len(level))
    if above is not None:
        counts[level.begins] = level.counts[level.begins]
    if level.order == 1:
        counts[level.begins] = 0
    return counts
