"""The samples that one corpus gives as a stream: its documents end to end, cut into equal windows, shuffled.

The documents of epoch 0, shuffled, then those of epoch 1, shuffled anew, and so on, are one endless row of tokens.
With a stride of S and an overlap of V tokens, window k is its tokens [k S, k S + S + V). For next-token labels V is 1:
the last token is only a label, and every token of the row but the very first is a label exactly once. Window k belongs
to the epoch in which it begins; the windows of an epoch are read in a shuffled order. Hence the sample of any number is
found by arithmetic, a binary search, and a read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pretrain.config.objective import SampleCutting
from pretrain.data.corpus_tokens import CorpusTokens, Stretch
from pretrain.data.documents import Documents, EpochOrders
from pretrain.data.index_file import Arrays
from pretrain.data.permutation import Permutation
from pretrain.data.samples import Origin, Samples

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

    Raises:
        ValueError: if there are fewer tokens than one sample (endless) or one label (not endless) needs.
    """

    extras: tuple[str, ...] = ()

    def __init__(
        self, corpus: Corpus, documents: Documents, sampling: SampleCutting, seed: int, *, endless: bool
    ) -> None:
        needed = sampling.overlap_tokens + (sampling.stride_tokens if endless else 1)
        if documents.num_tokens < needed:
            raise ValueError(f"a sample needs {needed:,}")
        self.corpus = corpus
        self.documents = documents
        self.endless = endless
        self._stride, self._overlap = sampling.stride_tokens, sampling.overlap_tokens
        self._key = (seed, corpus.fingerprint)
        self._orders = EpochOrders(documents, *self._key)
        self._tokens = CorpusTokens(corpus)

    def prepare(self, number: int) -> None:
        """Have the index at hand that reading sample `number` needs."""
        self._orders.order(self._epoch_of(number) if self.endless else 0)

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

    def _epoch_of(self, number: int) -> int:
        return number * self._stride // self.documents.num_tokens

    def _places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epoch, and place of the first token within it, of each sample."""
        length, num_tokens = self._stride, self.documents.num_tokens
        if not self.endless:
            count = self.num_samples_per_epoch
            return np.zeros_like(numbers), Permutation(count, "samples", *self._key)(numbers % count) * length
        epochs = numbers * length // num_tokens
        windows = np.empty_like(epochs)
        for epoch in np.unique(epochs).tolist():
            first, end = -(-epoch * num_tokens // length), -(-(epoch + 1) * num_tokens // length)
            here = epochs == epoch
            windows[here] = first + Permutation(end - first, "samples", *self._key, epoch)(numbers[here] - first)
        return epochs, windows * length - epochs * num_tokens

    def _stretches(self, numbers: np.ndarray) -> list[list[Stretch]]:
        """The stretches of documents that make up each sample."""
        wanted, num_tokens = self._stride + self._overlap, self.documents.num_tokens
        epochs, places = self._places(numbers)
        found: list[list[Stretch]] = [[]] * len(numbers)
        for epoch in np.unique(epochs).tolist():
            rows = np.flatnonzero(epochs == epoch)
            ends = np.minimum(places[rows] + wanted, num_tokens)
            for row, stretches in zip(rows.tolist(), _cut(self._orders.order(epoch), places[rows], ends)):
                found[row] = stretches
            if self.endless:
                for row in rows[places[rows] + wanted > num_tokens].tolist():
                    # The next epoch's first documents; its whole order need not be there yet.
                    rest = int(places[row]) + wanted - num_tokens
                    head = self._orders.head(epoch + 1, rest)
                    found[row] += _cut(head, np.array([0]), np.array([rest]))[0]
        return found


def _cut(order: Arrays, places: np.ndarray, ends: np.ndarray) -> list[list[Stretch]]:
    """The documents in each of the ranges [place, end) of an epoch, cut at its two ends."""
    firsts = order["start"].searchsorted(places, side="right") - 1
    lasts = order["start"].searchsorted(ends, side="left")
    found = []
    for place, end, first, last in zip(places.tolist(), ends.tolist(), firsts.tolist(), lasts.tolist()):
        bounds = order["start"][first : last + 1].tolist()
        sources = order["source"][first:last].tolist()
        skipped = place - bounds[0]
        bounds[0], bounds[-1] = place, end
        stretches = [(source, stop - begin, True) for source, begin, stop in zip(sources, bounds, bounds[1:])]
        if skipped:
            stretches[0] = (sources[0] + skipped, bounds[1] - place, False)
        found.append(stretches)
    return found
