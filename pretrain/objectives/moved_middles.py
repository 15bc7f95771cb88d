"""Documents of a sample with their middle moved behind the rest, for fill in the middle; numpy only.

Shape letters: B samples, W tokens in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pretrain.data.counter_random import CounterRandom
from pretrain.data.samples import Samples

PREFIX, SUFFIX, MIDDLE, NOTHING = -1, -2, -3, -4
"""What a place of `InfilledRows.source_BW` holds where it is no token of the sample: one of three sentinels, or no
token."""
SENTINELS = 3
"""How many a rearranged document has: they take as many places of the row."""


@dataclass(frozen=True)
class InfilledRows:
    """Where each token of a row comes from.

    Attributes:
        source_BW: int64, the column of the sample whose token stands here, or a code such as `PREFIX`.
        is_middle_BW: bool, whether the token belongs to a middle.
        starts_BW: bool, whether it is the first of a document, or of the part of one that the sample holds.
        dropped_B: int64, tokens at the end of each sample for which its row has no room.
    """

    source_BW: np.ndarray
    is_middle_BW: np.ndarray
    starts_BW: np.ndarray
    dropped_B: np.ndarray


class Infilling:
    """Draws which documents are rearranged, how, and where they are cut (Bavarian et al. 2022, sections 3 and 3.1).

    A document of n tokens, without those that begin and end documents, which keep their places, is cut at two of its
    n + 1 borders, each drawn uniformly: a part may be empty. Then it is written prefix, suffix, middle (PSM)::

        <fim_prefix> PREFIX <fim_suffix> SUFFIX <fim_middle> MIDDLE

    or suffix, prefix, middle (SPM; the variant of the paper's appendix D, which shares its form with the other)::

        <fim_prefix> <fim_suffix> SUFFIX <fim_middle> PREFIX MIDDLE

    All of it is a function of the key, the sample's number and the document's place in the sample.

    Args:
        rate: share of the documents that are rearranged.
        spm_rate: share of those that are written suffix first.
        begin_id: the token that begins documents; None: none does.
        end_id: the token that ends them; None: none does.
        key: what decides the draws.
    """

    def __init__(self, rate: float, spm_rate: float, begin_id: int | None, end_id: int | None, *key: int | str) -> None:
        self._rate, self._spm_rate = rate, spm_rate
        self._begin_id, self._end_id = begin_id, end_id
        purposes = ("which documents", "which order", "first cut", "second cut")
        self._which, self._order, *self._cuts = (CounterRandom(*key, "fill in the middle", p) for p in purposes)

    def rows(self, samples: Samples) -> InfilledRows:
        """The rows of samples that have `document_starts`; as long as the samples.

        A document is what of it lies in the sample. The row is filled in order, and a document that has less room
        than it needs is cut at its end before it is rearranged, so that each is whole; where fewer than four places
        are left, it keeps its order.
        """
        assert samples.document_starts is not None
        count, width = samples.tokens.shape
        rows = InfilledRows(
            source_BW=np.full((count, width), NOTHING, dtype=np.int64),
            is_middle_BW=np.zeros((count, width), dtype=np.bool_),
            starts_BW=np.zeros((count, width), dtype=np.bool_),
            dropped_B=np.zeros(count, dtype=np.int64),
        )
        starts = samples.document_starts & (np.arange(width) < samples.num_tokens[:, None])
        # A sample may begin within a document; its rest counts as one.
        starts[:, 0] = samples.num_tokens > 0
        at_row, at_column = np.nonzero(starts)
        firsts = np.searchsorted(at_row, np.arange(count))
        numbers, places = samples.numbers[at_row], np.arange(len(at_row)) - firsts[at_row]
        is_infilled = self._which.uniform(numbers, places) < self._rate
        is_spm = self._order.uniform(numbers, places) < self._spm_rate
        cuts = np.stack([cut.uniform(numbers, places) for cut in self._cuts], axis=1)
        for row, first in enumerate(firsts.tolist()):
            end = int(samples.num_tokens[row])
            last = firsts[row + 1] if row + 1 < count else len(at_row)
            bounds = [*at_column[first:last].tolist(), end]
            filled, read = 0, 0
            for document, (begin, stop) in enumerate(pairwise(bounds), first):
                room = width - filled
                if not room:
                    break
                source, middle = None, slice(0, 0)
                if is_infilled[document] and room > SENTINELS:
                    shortened = min(stop, begin + room - SENTINELS)
                    found = self._rearranged(samples.tokens[row], begin, shortened, cuts[document], is_spm[document])
                    if found is not None:
                        source, middle = found
                        stop = shortened
                if source is None:
                    stop = min(stop, begin + room)
                    source = np.arange(begin, stop)
                rows.source_BW[row, filled : filled + len(source)] = source
                rows.is_middle_BW[row, filled : filled + len(source)][middle] = True
                rows.starts_BW[row, filled] = True
                filled, read = filled + len(source), stop
            rows.dropped_B[row] = end - read
        return rows

    def _rearranged(
        self, tokens_W: np.ndarray, begin: int, stop: int, cuts: np.ndarray, is_spm: bool
    ) -> tuple[np.ndarray, slice] | None:
        """Sources of the document [begin, stop), and which of them are its middle; None: there is nothing to cut."""
        first = begin + (tokens_W[begin] == self._begin_id)
        last = max(first, stop - (tokens_W[stop - 1] == self._end_id))
        if first == last:
            return None
        low, high = (first + np.sort((cuts * (last - first + 1)).astype(np.int64))).tolist()
        prefix, middle, suffix = np.arange(first, low), np.arange(low, high), np.arange(high, last)
        if is_spm:
            parts = [[PREFIX], [SUFFIX], suffix, [MIDDLE], prefix, middle]
        else:
            parts = [[PREFIX], prefix, [SUFFIX], suffix, [MIDDLE], middle]
        source = np.concatenate([np.arange(begin, first), *parts, np.arange(last, stop)]).astype(np.int64)
        ends = len(source) - (stop - last)
        return source, slice(ends - len(middle), ends)
