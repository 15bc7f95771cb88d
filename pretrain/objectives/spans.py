"""Which spans of a text are dropped, and what is read and written instead; numpy only.

Random segmentation and sentinels are those of T5's own program (random_spans_noise_mask,
noise_span_to_unique_sentinel; Raffel et al. 2020, section 3.1.4).

Shape letters: R rows, W positions of text in each, N columns of packed rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.objectives.masking import choose_tokens


@dataclass(frozen=True)
class Packed:
    """Rows of different lengths, each from column 0 on.

    Attributes:
        tokens_RN: int64.
        lengths_R: int64, tokens in each row.
    """

    tokens_RN: np.ndarray
    lengths_R: np.ndarray

    @classmethod
    def of(cls, values_RW: np.ndarray, keep_RW: np.ndarray, width: int, pad: int) -> Packed:
        """The values that are kept, side by side, in rows of `width` columns with `pad` behind them."""
        tokens = np.full((len(values_RW), width), pad, dtype=np.int64)
        rows, columns = np.nonzero(keep_RW)
        tokens[rows, np.cumsum(keep_RW, axis=1)[rows, columns] - 1] = values_RW[rows, columns]
        return cls(tokens, keep_RW.sum(axis=1))

    def with_first(self, first_R: np.ndarray) -> Packed:
        """One more token in front of each row, int64 [R]; the last column, where nothing may stand, gives way."""
        tokens = np.concatenate([first_R[:, None], self.tokens_RN[:, :-1]], axis=1)
        return Packed(tokens, self.lengths_R + 1)

    def with_last(self, last: np.ndarray | int, where_R: np.ndarray | None = None) -> Packed:
        """One more token behind each row, or behind those of `where_R`; int64 [R], or the same one for all."""
        tokens = self.tokens_RN.copy()
        rows = np.arange(len(tokens)) if where_R is None else np.flatnonzero(where_R)
        tokens[rows, self.lengths_R[rows]] = last[rows] if isinstance(last, np.ndarray) else last
        lengths = self.lengths_R.copy()
        lengths[rows] += 1
        return Packed(tokens, lengths)


def compositions(keys_RN: np.ndarray, totals_R: np.ndarray, parts_R: np.ndarray) -> np.ndarray:
    """Each total as the sum of so many positive parts, each such sum equally likely, int64 [R, most parts].

    Args:
        keys_RN: random keys, uint64; at least as many columns as the largest total.
        totals_R: what is divided, int64.
        parts_R: into how many, at most the total, int64; behind them zeros.
    """
    columns = np.arange(keys_RN.shape[1])
    inside = columns < totals_R[:, None]
    begins = choose_tokens(keys_RN, inside & (columns > 0), np.maximum(parts_R - 1, 0))
    begins[:, 0] = totals_R > 0
    numbers = np.cumsum(begins, axis=1) - 1
    lengths = np.zeros((len(totals_R), int(parts_R.max(initial=0))), dtype=np.int64)
    rows, at = np.nonzero(inside)
    np.add.at(lengths, (rows, numbers[rows, at]), 1)
    return lengths


def noise_mask(
    kept_keys_RW: np.ndarray, noise_keys_RW: np.ndarray, lengths_R: np.ndarray, counts_R2: np.ndarray
) -> np.ndarray:
    """Which tokens are dropped, bool [R, W]: kept and dropped spans in turn, the first kept, the last dropped.

    Args:
        kept_keys_RW: random keys of the kept spans' lengths, uint64.
        noise_keys_RW: random keys of the dropped spans' lengths, uint64.
        lengths_R: tokens of text in each row, int64.
        counts_R2: tokens that are dropped, and spans; see `SpanNoise.counts`.
    """
    num_noise, num_spans = counts_R2[:, 0], counts_R2[:, 1]
    has_noise = num_spans > 0
    kept = compositions(kept_keys_RW, np.where(has_noise, lengths_R - num_noise, 0), num_spans)
    noise = compositions(noise_keys_RW, num_noise, num_spans)
    count, width = kept_keys_RW.shape
    in_turn = np.stack([kept, noise], axis=2).reshape(count, -1)
    starts = np.cumsum(in_turn, axis=1)[:, :-1]
    changes = np.zeros((count, width + 1), dtype=np.int64)
    np.add.at(changes, (np.arange(count)[:, None], starts), 1)
    is_noise: np.ndarray = np.cumsum(changes, axis=1)[:, :-1] % 2 == 1
    return is_noise & (np.arange(width) < lengths_R[:, None]) & has_noise[:, None]


def with_sentinels(
    tokens_RW: np.ndarray, is_text_RW: np.ndarray, replaced_RW: np.ndarray, sentinels: np.ndarray, width: int, pad: int
) -> Packed:
    """The text with each run of replaced tokens as one sentinel, the first in a row as the first sentinel, and so on.

    Args:
        tokens_RW: the text, int64.
        is_text_RW: where it is, bool.
        replaced_RW: which of it is replaced, bool.
        sentinels: ids in the order of their numbers, int64.
        width: columns of the result.
        pad: what stands behind it.
    """
    begins = replaced_RW.copy()
    begins[:, 1:] &= ~replaced_RW[:, :-1]
    numbers = np.cumsum(begins, axis=1) - 1
    values = np.where(begins, sentinels[np.maximum(numbers, 0)], tokens_RW)
    return Packed.of(values, is_text_RW & (~replaced_RW | begins), width, pad)
