"""Which words of a text stand behind a mask, and in which order its sentences do; numpy only.

Text infilling and sentence permutation of BART (Lewis et al. 2020, section 2.2).

Shape letters: R rows, W positions of text in each, N columns of spans or slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretrain.data.counter_random import CounterRandom
from pretrain.objectives.masking import choose_tokens
from pretrain.objectives.spans import Packed

_MORE_SPANS = 32


@dataclass(frozen=True)
class DrawnSpans:
    """The spans of each row, in order.

    Attributes:
        words_RN: words in each, int64; 0 for an inserted mask, and behind the last span.
        counts_R: spans of each row, int64.
    """

    words_RN: np.ndarray
    counts_R: np.ndarray


def draw_spans(random: CounterRandom, numbers_R: np.ndarray, budgets_R: np.ndarray, mean_words: float) -> DrawnSpans:
    """Spans of Poisson lengths until a row's budget of words is spent; the last one gets what is left.

    Spans without words are inserted masks. There are never more spans than words of the budget: of a text with so few
    that inserts would make it longer, the first of them are left out.

    Args:
        random: the draws.
        numbers_R: sample number of each row, int64.
        budgets_R: words that all spans of a row have together, int64.
        mean_words: mean of the distribution.
    """
    ends_of_shares = _poisson_distribution(mean_words)
    width = int(budgets_R.max(initial=0)) + _MORE_SPANS
    while True:
        uniform = random.uniform(numbers_R[:, None], np.arange(width))
        words = np.searchsorted(ends_of_shares, uniform, side="right")
        spent = np.cumsum(words, axis=1)
        if (spent[:, -1] >= budgets_R).all():
            break
        width *= 2
    is_last = (spent >= budgets_R[:, None]) & (spent - words < budgets_R[:, None])
    words = np.where(is_last, words - (spent - budgets_R[:, None]), words)
    is_span = ((np.cumsum(is_last, axis=1) == 0) | is_last) & (budgets_R[:, None] > 0)
    surplus = is_span.sum(axis=1) - budgets_R
    is_insert = is_span & (words == 0)
    is_span &= ~(is_insert & (np.cumsum(is_insert, axis=1) <= surplus[:, None]))
    packed = Packed.of(words, is_span, int(is_span.sum(axis=1).max(initial=0)), 0)
    return DrawnSpans(packed.tokens_RN, packed.lengths_R)


def _poisson_distribution(mean: float) -> np.ndarray:
    """P(X <= k) for k = 0, 1, ..., float64, up to where it is 1."""
    shares = [math.exp(-mean)]
    while sum(shares) < 1 - 1e-15 and len(shares) < 20 * (1 + mean):
        shares.append(shares[-1] * mean / len(shares))
    return np.cumsum(shares)


@dataclass(frozen=True)
class Infilled:
    """Rows with masks in place of spans.

    Attributes:
        packed: the rows.
        is_hidden_RW: which tokens of the text are behind a mask, bool.
    """

    packed: Packed
    is_hidden_RW: np.ndarray


def infill(
    tokens_RW: np.ndarray,
    is_text_RW: np.ndarray,
    begins_word_RW: np.ndarray,
    spans: DrawnSpans,
    keys_RN: np.ndarray,
    mask: int,
    pad: int,
) -> Infilled:
    """Put a mask in place of each span; where they are is equally likely among all places at which none overlap.

    Args:
        tokens_RW: the text, int64.
        is_text_RW: where it is, from column 0 on, bool.
        begins_word_RW: whose token begins a word, bool; true at column 0 of a row with text.
        spans: which; together at most as many words as the row has.
        keys_RN: random keys, uint64; at least W columns.
        mask: what stands for a span.
        pad: what stands behind the text.
    """
    begins_RW = begins_word_RW & is_text_RW
    num_words = begins_RW.sum(axis=1)
    # A slot is a word that is read, or a span.
    num_slots = num_words - spans.words_RN.sum(axis=1) + spans.counts_R
    columns = np.arange(keys_RN.shape[1])
    is_slot = columns < num_slots[:, None]
    is_span = choose_tokens(keys_RN, is_slot, spans.counts_R)
    widths = is_slot.astype(np.int64)
    # Both are in the order of rows, then places.
    widths[is_span] = spans.words_RN[np.arange(spans.words_RN.shape[1]) < spans.counts_R[:, None]]
    slot_of_word = np.repeat(np.broadcast_to(columns, widths.shape).ravel(), widths.ravel())
    is_hidden_word = np.repeat(is_span.ravel(), widths.ravel())

    rows, places = np.nonzero(is_text_RW)
    word = np.cumsum(begins_RW[is_text_RW]) - 1
    is_hidden_RW = np.zeros_like(is_text_RW)
    is_hidden_RW[is_text_RW] = is_hidden_word[word]
    read = ~is_hidden_word[word]
    mask_rows, mask_slots = np.nonzero(is_span)
    out_rows = np.concatenate([rows[read], mask_rows])
    out_slots = np.concatenate([slot_of_word[word][read], mask_slots])
    out_places = np.concatenate([places[read], np.zeros_like(mask_rows)])
    values = np.concatenate([tokens_RW[is_text_RW][read], np.full(len(mask_rows), mask)])
    order = np.lexsort((out_places, out_slots, out_rows))
    lengths = np.bincount(out_rows, minlength=len(tokens_RW))
    packed = np.full((len(tokens_RW), int(lengths.max(initial=0))), pad, dtype=np.int64)
    packed[np.arange(packed.shape[1]) < lengths[:, None]] = values[order]
    return Infilled(Packed(packed, lengths), is_hidden_RW)


def sentence_order(
    is_text_RW: np.ndarray, sentence_starts_RW: np.ndarray, document_starts_RW: np.ndarray, keys_RW: np.ndarray
) -> np.ndarray:
    """The order in which to read a text so that the sentences of each document are shuffled, int64 [R, W].

    Documents stay where they are, and the end-of-document token that stands between two of them stays at the end.

    Args:
        is_text_RW: where the text is, bool.
        sentence_starts_RW: which tokens begin a sentence, bool.
        document_starts_RW: which tokens begin a document, bool.
        keys_RW: random keys, uint64.
    """
    columns = np.arange(is_text_RW.shape[1])
    ends_document = np.zeros_like(is_text_RW)
    ends_document[:, :-1] = document_starts_RW[:, 1:]
    starts = sentence_starts_RW | ends_document
    starts[:, 0] = True
    first_of_sentence = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    keys = np.take_along_axis(keys_RW, first_of_sentence, axis=1)
    document = np.cumsum(document_starts_RW, axis=1)
    order: np.ndarray = np.lexsort((np.broadcast_to(columns, keys.shape), keys, ends_document, document, ~is_text_RW))
    return order
