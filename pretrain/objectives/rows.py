"""Samples -> rows as an encoder reads them: special tokens put in, cut to a length, padded; numpy only.

Shape letters: R rows, S positions in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.data.samples import Samples

PADDING_SEGMENT = -1


@dataclass(frozen=True)
class SpecialIds:
    """The special tokens that rows are made with.

    Attributes:
        pad: what stands behind the text.
        classification: the first token of a row; None: rows have no special tokens.
        separator: the token that ends a part of a row; None with `classification`.
    """

    pad: int = 0
    classification: int | None = None
    separator: int | None = None


@dataclass(frozen=True)
class Rows:
    """What a micro-batch reads before anything is masked.

    Attributes:
        tokens_RS: int64.
        is_text_RS: bool, which positions hold the samples' own tokens.
        segment_ids_RS: int64, number of the document in the row, `PADDING_SEGMENT` where there is padding; None where
            all positions of all rows see each other.
        position_ids_RS: int64.
    """

    tokens_RS: np.ndarray
    is_text_RS: np.ndarray
    segment_ids_RS: np.ndarray | None
    position_ids_RS: np.ndarray


def text_rows(samples: Samples, length: int, rows_per_sample: int, special: SpecialIds) -> Rows:
    """Rows of one text each: [CLS] text [SEP], or text alone.

    Args:
        samples: with `document_starts` where documents are to be apart.
        length: positions in a row.
        rows_per_sample: rows that each sample is cut into, of equal numbers of tokens but the last.
        special: the special tokens.
    """
    count, width = samples.tokens.shape
    num_rows, offset = count * rows_per_sample, 0 if special.classification is None else 1
    text = -(-width // rows_per_sample)
    lengths = np.clip(samples.num_tokens[:, None] - np.arange(rows_per_sample) * text, 0, text).reshape(num_rows, 1)
    columns = np.arange(length)
    is_text = (columns >= offset) & (columns < offset + lengths)

    tokens = np.zeros((num_rows, length), dtype=np.int64)
    tokens[:, offset : offset + text] = _cut(samples.tokens, rows_per_sample, text)
    tokens[~is_text] = special.pad
    is_read, ends = is_text, lengths
    if special.classification is not None:
        filled = lengths > 0
        tokens[(columns == 0) & filled] = special.classification
        tokens[(columns == offset + lengths) & filled] = special.separator
        ends = np.where(filled, lengths + 2, 0)
        is_read = columns < ends

    segments, positions = None, np.broadcast_to(columns, tokens.shape)
    if samples.document_starts is not None:
        starts = np.zeros(tokens.shape, dtype=np.bool_)
        starts[:, offset : offset + text] = _cut(samples.document_starts, rows_per_sample, text)
        # A row may begin within a document; its rest is the first segment. [CLS] belongs to that one.
        starts[:, : offset + 1] = False
        starts[:, 0] = True
        segments = np.cumsum(starts, axis=1) - 1
        positions = columns - np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    elif not bool((ends == length).all()):
        segments = np.zeros(tokens.shape, dtype=np.int64)
    if segments is not None:
        segments[~is_read] = PADDING_SEGMENT
    return Rows(tokens, is_text, segments, positions)


def _cut(values: np.ndarray, rows_per_sample: int, width: int) -> np.ndarray:
    """[n, W] -> [n x rows_per_sample, width], zeros behind the end."""
    missing = rows_per_sample * width - values.shape[1]
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)))
    return values.reshape(-1, width)


@dataclass(frozen=True)
class PairParts:
    """Where the two parts of each sample lie among its tokens, int64 [R] each.

    Attributes:
        first_begin, first_tokens: place and length of A.
        second_begin, second_tokens: place and length of B; a length of 0: there is none.
    """

    first_begin: np.ndarray
    first_tokens: np.ndarray
    second_begin: np.ndarray
    second_tokens: np.ndarray


def trimmed_parts(samples: Samples, is_blank: np.ndarray) -> PairParts:
    """The parts of samples with `first_tokens` and `second_tokens`, without white space at their ends.

    Of a document's sentences all but the last are followed by white space: left in, it would tell the parts' order.

    Args:
        samples: the tokens of A, then those of B.
        is_blank: ids that write nothing but white space, bool [vocabulary].
    """
    firsts, seconds = samples.extras["first_tokens"], samples.extras["second_tokens"]
    columns, blank = np.arange(samples.tokens.shape[1]), is_blank[samples.tokens]
    found = []
    for begin, length in ((np.zeros_like(firsts), firsts), (firsts, seconds)):
        inside = (columns >= begin[:, None]) & (columns < (begin + length)[:, None]) & ~blank
        has_text = inside.any(axis=1)
        first = np.where(has_text, inside.argmax(axis=1), begin)
        last = np.where(has_text, inside.shape[1] - inside[:, ::-1].argmax(axis=1), begin + length)
        found += [first, last - first]
    return PairParts(*found)


def pair_rows(samples: Samples, parts: PairParts, length: int, special: SpecialIds) -> tuple[Rows, np.ndarray]:
    """Rows of two parts: [CLS] A [SEP] B [SEP]; without a second part [CLS] A [SEP].

    Args:
        samples: the tokens.
        parts: where A and B lie in them.
        length: positions in a row.
        special: the special tokens; all three.

    Returns:
        The rows, and token types, int64 [R, S]: 1 for B and the separator after it, else 0.
    """
    assert special.classification is not None and special.separator is not None
    columns = np.arange(length)
    firsts, seconds = parts.first_tokens[:, None], parts.second_tokens[:, None]
    filled = firsts > 0
    border = firsts + 1
    ends = np.where(seconds > 0, firsts + seconds + 3, np.where(filled, firsts + 2, 0))
    is_read = columns < ends
    is_separator = ((columns == border) | (columns == ends - 1)) & is_read
    is_text = is_read & ~is_separator & (columns > 0)
    of_first = parts.first_begin[:, None] + columns - 1
    of_second = parts.second_begin[:, None] + columns - border - 1
    source = np.clip(np.where(columns > border, of_second, of_first), 0, samples.tokens.shape[1] - 1)
    tokens = np.take_along_axis(samples.tokens, source, axis=1)
    tokens[~is_read] = special.pad
    tokens[is_separator] = special.separator
    tokens[(columns == 0) & is_read] = special.classification
    segments = np.where(is_read, 0, PADDING_SEGMENT)
    types = ((columns > border) & is_read).astype(np.int64)
    return Rows(tokens, is_text, segments, np.broadcast_to(columns, tokens.shape)), types
