"""The samples that one corpus gives as a stream: its documents end to end, cut into equal windows, shuffled.

The documents of epoch 0, shuffled, then those of epoch 1, shuffled anew, and so on, are one endless row of tokens.
With a stride of S and an overlap of V tokens, window k is its tokens [k S, k S + S + V). For next-token labels V is 1:
the last token is only a label, and every token of the row but the very first is a label exactly once. Window k belongs
to the epoch in which it begins; the windows of an epoch are read in a shuffled order. Hence the sample of any number is
found by arithmetic, a binary search, and a read.

A corpus that is cut anew in the middle of an epoch goes on with what it has not given yet: see `RestRow`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from configs.kinds import resolve
from pretrain.config.objective import SampleCutting
from pretrain.data.corpus_tokens import CorpusTokens, Stretch
from pretrain.data.documents import Documents
from pretrain.data.permutation import Permutation
from pretrain.data.samples import Origin, Samples
from pretrain.data.token_row import EpochRow, RestRow, TokenRow

if TYPE_CHECKING:
    from data_prep.corpus import Corpus


class TokenStream:
    """Samples of one part of one corpus, by number.

    Args:
        corpus: where the tokens are.
        documents: the part.
        sampling: stride and overlap.
        seed: decides the orders of documents and samples.
        endless: whether epoch follows epoch; if not, the same one epoch comes again and again, and its last sample
            may be short.
        row: what is cut; None: all epochs of the documents.

    Raises:
        ValueError: if there are fewer tokens than one sample (endless) or one label (not endless) needs.
    """

    extras: tuple[str, ...] = ()

    def __init__(
        self,
        corpus: Corpus,
        documents: Documents,
        sampling: SampleCutting,
        seed: int,
        *,
        endless: bool,
        row: TokenRow | None = None,
    ) -> None:
        needed = sampling.overlap_tokens + (sampling.stride_tokens if endless else 1)
        if documents.num_tokens < needed:
            raise ValueError(f"a sample needs {needed:,}")
        self.corpus = corpus
        self.documents = documents
        self.endless = endless
        self._seed, self._key = seed, (seed, corpus.fingerprint)
        self._stride, self._overlap = sampling.stride_tokens, sampling.overlap_tokens
        self._row: TokenRow = EpochRow(documents, *self._key) if row is None else row
        self._tokens = CorpusTokens(corpus)

    def continued(self, sampling: SampleCutting, taken: int) -> TokenStream:
        """See `Continuing`."""
        if resolve(sampling.index) is not type(self):
            raise ValueError("samples of another kind cannot follow within an epoch")
        row = self._row
        if taken:
            row = RestRow(row, self.documents, self._stride, taken, self._order, sampling.overlap_tokens)
        return type(self)(self.corpus, self.documents, sampling, self._seed, endless=self.endless, row=row)

    @property
    def has_joins(self) -> bool:
        """Whether samples may have tokens that are `joined`."""
        return self._row.has_joins

    def rest_notes(self) -> list[str]:
        """See `Continuing`."""
        if not isinstance(self._row, RestRow):
            return []
        tokens, pieces = self._row.rest_of_epoch()
        return [
            f"{self.corpus.path}: was begun at another length of sample; what is left of that epoch is in {pieces:,}"
            f" {'piece' if pieces == 1 else 'pieces'} of {tokens / pieces:,.0f} tokens on average, which are joined to"
            " samples of the length now asked for"
        ]

    def prepare(self, number: int) -> None:
        """Have the index at hand that reading sample `number` needs."""
        self._row.prepare(number * self._stride if self.endless else 0)

    @property
    def num_samples_per_epoch(self) -> int:
        """Samples of the first epoch; in an endless row later ones may have one fewer."""
        num_tokens = self.documents.num_tokens - (0 if self.endless else self._overlap)
        return -(-num_tokens // self._stride)

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers`, int64 [n], into `rows`, int64 [n], of `samples`."""
        for row, stretches in zip(rows.tolist(), self._stretches(numbers)):
            self._tokens.fill(samples, row, stretches)

    def origins(self, number: int) -> list[Origin]:
        """Where the tokens of sample `number` come from, in order."""
        return [self._tokens.origin(source, length) for source, length, _ in self._stretches(np.array([number]))[0]]

    def _order(self, group: int, num_windows: int) -> Callable[[np.ndarray], np.ndarray]:
        """The order in which the windows that begin in a group are read, as numbers within it."""
        return Permutation(num_windows, "samples", *self._key, *self._row.key(group))

    def _places(self, numbers: np.ndarray) -> np.ndarray:
        """Place of the first token of each sample in the row, int64 [n]."""
        length = self._stride
        if not self.endless:
            count = self.num_samples_per_epoch
            return Permutation(count, "samples", *self._key)(numbers % count) * length
        groups = self._row.groups(numbers * length)
        windows = np.empty_like(groups)
        for group in np.unique(groups).tolist():
            first, end = (-(-place // length) for place in self._row.span(group))
            here = groups == group
            windows[here] = first + self._order(group, end - first)(numbers[here] - first)
        return windows * length

    def _stretches(self, numbers: np.ndarray) -> list[list[Stretch]]:
        """The stretches of documents that make up each sample."""
        places = self._places(numbers)
        ends = places + self._stride + self._overlap
        return self._row.stretches(places, ends if self.endless else np.minimum(ends, self.documents.num_tokens))
