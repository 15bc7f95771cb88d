"""Which positions of rows are chosen to be predicted, and what is read there instead; numpy only.

Each row gets a budget of round(rate x tokens) positions, at least one, as the published BERT does (Devlin et al. 2019,
section 3.1; `create_pretraining_data.py` of google-research/bert). What counts are the tokens that may be chosen; the
published program counts the two or three special tokens of a row, too.

Shape letters: R rows, S positions in each. Random keys are uint64 [R, S], equally likely in every order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPAN_P = 0.2
"""Parameter of the geometric distribution of span lengths (Joshi et al. 2020, SpanBERT, section 3.1)."""
MAX_SPAN_WORDS = 10
"""Longest span, in words; lengths beyond it are drawn again, so that the mean is 3.8 as published."""
_LEVEL = np.uint64(44)


def budgets(maskable_RS: np.ndarray, rates_R: np.ndarray) -> np.ndarray:
    """Positions to choose in each row, int64 [R]; 0 only in a row without any that may be chosen."""
    available = maskable_RS.sum(axis=1)
    return np.minimum(np.maximum(np.rint(available * rates_R).astype(np.int64), 1), available)


def choose_tokens(keys_RS: np.ndarray, maskable_RS: np.ndarray, budgets_R: np.ndarray) -> np.ndarray:
    """Exactly `budgets_R` positions of each row, each equally likely, bool [R, S]."""
    last = np.uint64(np.iinfo(np.uint64).max)
    keys_RS = np.where(maskable_RS, keys_RS, last)
    limits_R = np.take_along_axis(np.sort(keys_RS, axis=1), np.maximum(budgets_R - 1, 0)[:, None], axis=1)
    return (keys_RS <= limits_R) & maskable_RS & (budgets_R > 0)[:, None]


@dataclass(frozen=True)
class Words:
    """The words of all rows, one after the other.

    Attributes:
        rows: row of each word, int64 [words].
        firsts: column of its first token, int64 [words].
        lengths: its tokens, int64 [words].
        bounds: first word of each row, int64 [R + 1].
        begins_text: whether a document begins with each word, bool [words]; no span runs into it.
    """

    rows: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray
    bounds: np.ndarray
    begins_text: np.ndarray

    @classmethod
    def find(cls, maskable_RS: np.ndarray, begins_RS: np.ndarray, documents_RS: np.ndarray | None = None) -> Words:
        """Words are runs of positions that may be chosen, cut where a token begins a word, and at the row's ends.

        Args:
            maskable_RS: which positions may be chosen, bool.
            begins_RS: whose token begins a word, however it is written, bool.
            documents_RS: number of each position's document; each begins a word. None: they are not apart.
        """
        begins_text_RS = np.zeros_like(maskable_RS)
        if documents_RS is not None:
            begins_text_RS[:, 1:] = documents_RS[:, 1:] != documents_RS[:, :-1]
        begins_RS = (begins_RS | begins_text_RS) & maskable_RS
        begins_RS[:, 0] = maskable_RS[:, 0]
        begins_RS[:, 1:] |= maskable_RS[:, 1:] & ~maskable_RS[:, :-1]
        rows, firsts = np.nonzero(begins_RS)
        number_of_word = np.cumsum(begins_RS.ravel())[maskable_RS.ravel()] - 1
        lengths = np.bincount(number_of_word, minlength=len(rows))
        bounds = np.searchsorted(rows, np.arange(len(maskable_RS) + 1))
        return cls(rows, firsts, lengths, bounds, begins_text_RS[rows, firsts])

    def shuffled(self, keys_RS: np.ndarray) -> np.ndarray:
        """The numbers of all words, row by row, in a random order within each row, int64 [words]."""
        keys = (self.rows.astype(np.uint64) << _LEVEL) | (keys_RS[self.rows, self.firsts] >> (np.uint64(64) - _LEVEL))
        return np.argsort(keys)

    def positions(self, words: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Where the tokens of some words are, bool [R, S]."""
        edges = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
        np.add.at(edges, (self.rows[words], self.firsts[words]), 1)
        np.add.at(edges, (self.rows[words], self.firsts[words] + self.lengths[words]), -1)
        return np.cumsum(edges, axis=1)[:, :-1] > 0


def choose_words(keys_RS: np.ndarray, words: Words, budgets_R: np.ndarray) -> np.ndarray:
    """Whole words in a random order, each that still fits into the row's budget, bool [R, S].

    As the published whole-word masking of BERT does. A row none of whose words fits gives its shortest one.
    """
    order = words.shuffled(keys_RS)
    lengths = words.lengths[order]
    before = np.concatenate([[0], np.cumsum(lengths)])
    used = before[1:] - before[words.bounds[words.rows[order]]]
    fits = used <= budgets_R[words.rows[order]]
    # Lengths are positive, so what fits without leaving one out is a prefix of the row.
    num_prefix = np.bincount(words.rows[order][fits], minlength=len(budgets_R))
    for row, (begin, end) in enumerate(zip(words.bounds[:-1].tolist(), words.bounds[1:].tolist())):
        at = begin + int(num_prefix[row])
        left = int(budgets_R[row]) - int(before[at] - before[begin])
        taken = at > begin
        while left > 0 and at < end:
            if lengths[at] <= left:
                fits[at] = taken = True
                left -= int(lengths[at])
            at += 1
        if not taken and end > begin:
            fits[begin + int(np.argmin(lengths[begin:end]))] = True
    return words.positions(order[fits], keys_RS.shape)


def span_lengths(uniform: np.ndarray) -> np.ndarray:
    """Words of spans from uniform draws in [0, 1): geometric, at most `MAX_SPAN_WORDS`, int64 of the same shape."""
    shares = SPAN_P * (1 - SPAN_P) ** np.arange(MAX_SPAN_WORDS)
    return np.searchsorted(np.cumsum(shares / shares.sum())[:-1], uniform, side="right") + 1


def choose_spans(
    keys_RS: np.ndarray, words: Words, lengths: np.ndarray, budgets_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spans of whole words until each row's budget is spent; the last span of a row may end within a word.

    Spans begin at words that are equally likely among those not yet chosen, and end before a special token and, where
    documents are apart, with their document.

    Args:
        keys_RS: random keys.
        words: the words.
        lengths: words of the span that begins at each word, if one does, int64 [words].
        budgets_R: positions to choose, int64.

    Returns:
        The chosen positions, bool [R, S], and for each the column where its span begins, int64 [R, S].
    """
    order, bounds = words.shuffled(keys_RS).tolist(), words.bounds.tolist()
    firsts, sizes, spans = words.firsts.tolist(), words.lengths.tolist(), lengths.tolist()
    begins_text = words.begins_text.tolist()
    is_taken = bytearray(len(order))
    taken: list[int] = []
    starts: list[int] = []
    counts: list[int] = []
    for begin, end, left in zip(bounds, bounds[1:], budgets_R.tolist()):
        for word in order[begin:end]:
            if left <= 0:
                break
            if is_taken[word]:
                continue
            start = column = firsts[word]
            for at in range(word, min(word + spans[word], end)):
                if left <= 0 or firsts[at] != column or (begins_text[at] and at > word):
                    break
                if not is_taken[at]:
                    is_taken[at] = 1
                    taken.append(at)
                    starts.append(start)
                    counts.append(min(sizes[at], left))
                    left -= sizes[at]
                column += sizes[at]
    chosen_RS = np.zeros(keys_RS.shape, dtype=np.bool_)
    starts_RS = np.zeros(keys_RS.shape, dtype=np.int64)
    counted, chosen = np.array(counts, dtype=np.int64), np.array(taken, dtype=np.int64)
    within = np.arange(counted.sum()) - np.repeat(np.cumsum(counted) - counted, counted)
    rows, columns = np.repeat(words.rows[chosen], counted), np.repeat(words.firsts[chosen], counted) + within
    chosen_RS[rows, columns] = True
    starts_RS[rows, columns] = np.repeat(np.array(starts, dtype=np.int64), counted)
    return chosen_RS, starts_RS


@dataclass(frozen=True)
class Replacement:
    """What is read at chosen positions.

    Attributes:
        by_mask: share that reads the mask token.
        by_random: share that reads a random token; the rest keeps its own.
        mask_id: the mask token.
        candidates: ids that a random token may be, int64.
    """

    by_mask: float
    by_random: float
    mask_id: int
    candidates: np.ndarray

    def __call__(self, tokens: np.ndarray, kind: np.ndarray, which: np.ndarray) -> np.ndarray:
        """The tokens that are read in place of `tokens`.

        Args:
            tokens: the original ids at the chosen positions, int64 [n].
            kind: uniform draws in [0, 1) that decide between mask, random and kept, [n].
            which: uniform draws in [0, 1) that decide the random token, [n].
        """
        random = self.candidates[(which * len(self.candidates)).astype(np.int64)]
        read = np.where(kind < self.by_mask + self.by_random, random, tokens)
        return np.where(kind < self.by_mask, self.mask_id, read)
