"""Samples of whole sentences, up to a length: what `FullSentences` finds sample number n with.

RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2): sentence after sentence, over the ends of documents, where a
separator stands, until the next one has no room.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from configs.errors import DataError
from pretrain.config.sampling import SampleCutting
from pretrain.data.corpus_tokens import BEGINS_DOCUMENT, Stretch
from pretrain.data.documents import Documents
from pretrain.data.epoch_cuttings import EpochCuttings
from pretrain.data.index_file import Allocate, Arrays
from pretrain.data.long_sentences import EvenCuts
from pretrain.data.permutation import Permutation
from pretrain.data.samples import Origin, Samples
from pretrain.data.sentences import SentenceTable

if TYPE_CHECKING:
    from data_prep.corpus import Corpus

_BLOCK_DOCUMENTS = 1 << 16


class FullSentences(EpochCuttings):
    """Samples of one part of one corpus, by number: sentences of shuffled documents, each in one sample an epoch.

    A document is followed by its end-of-document token, as the corpus has it, where the next one begins in the same
    sample. A sentence longer than a sample counts as several.

    Args:
        corpus: where the tokens are; tokenized with sentences=true.
        documents: the part.
        sampling: `stride_tokens` is the room.
        seed: decides the orders of documents and samples.
        endless: whether epoch follows epoch; if not, the same one epoch comes again and again.

    Raises:
        DataError: if the corpus does not keep sentences, or not the ends of documents.
        ValueError: if there is no sentence.
    """

    def __init__(
        self, corpus: Corpus, documents: Documents, sampling: SampleCutting, seed: int, *, endless: bool
    ) -> None:
        super().__init__(corpus, documents, sampling, "full sentences", seed, endless=endless)
        self._room = sampling.stride_tokens
        self._table = SentenceTable.read(corpus, documents, EvenCuts(self._room))
        if corpus.manifest is not None and corpus.manifest.end_of_document is None:
            raise DataError(
                "has nothing between its documents",
                where=corpus.path,
                expected="a corpus made by `tokenize sentences=true append_end_of_document=true`",
            )
        if not self._table.num_documents:
            raise ValueError("a sample needs a sentence")

    def num_samples(self, cutting: Arrays) -> int:
        """See the base class."""
        return len(cutting["first"]) - 1

    def notes(self) -> list[str]:
        """How full the samples of the first epoch are."""
        cutting = self.cutting(0)
        samples, sentences = self.num_samples(cutting), int(cutting["first"][-1])
        filled = int(self._table.start[-1]) / (samples * self._room)
        return [
            f"{self.corpus.path}: {samples:,} samples of {sentences:,} whole sentences in the first epoch,"
            f" {filled:.0%} of their room is text"
        ]

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers`, int64 [n], into `rows`, int64 [n], of `samples`."""
        for row, stretches in zip(rows.tolist(), self._stretches(numbers)):
            self.tokens.fill(samples, row, stretches)
            if samples.sentence_starts is not None:
                self._mark_sentences(samples.sentence_starts[row], stretches)

    def origins(self, number: int) -> list[Origin]:
        """Where the tokens of sample `number` come from, in order."""
        return [self.tokens.origin(source, length) for source, length, _ in self._stretches(np.array([number]))[0]]

    def make_cutting(self, number: int) -> Arrays:
        """See the base class: the order of the documents, and the first sentence of each sample in that order."""
        what = f"full sentences up to {self._room} tokens, cutting {number} of {' '.join(map(str, self.key))}"
        return self.documents.built("full-sentences", what, lambda allocate: self._fill(number, allocate))

    def _stretches(self, numbers: np.ndarray) -> list[list[Stretch]]:
        found: list[list[Stretch]] = [[]] * len(numbers)
        for rows, cutting, places in self.located(numbers):
            for row, place in zip(rows.tolist(), places.tolist()):
                found[row] = list(self._of_sample(cutting, place))
        return found

    def _mark_sentences(self, starts_W: np.ndarray, stretches: list[Stretch]) -> None:
        """Mark the first token of each sentence; the end-of-document token behind one belongs to it."""
        sources, filled = self._table.source, 0
        for source, length, _ in stretches:
            # Stretches begin with a sentence, and within one the sentences stand side by side, in the corpus' order.
            first, behind = sources.searchsorted([source, source + length]).tolist()
            starts_W[sources[first:behind] - source + filled] = True
            filled += length

    def _of_sample(self, cutting: Arrays, place: int) -> Iterator[Stretch]:
        """The stretches of sample `place` of a cutting."""
        table, bounds = self._table, cutting["bounds"]
        begin, end = cutting["first"][place : place + 2].tolist()
        document = int(bounds.searchsorted(begin, side="right")) - 1
        while begin < end:
            first, behind = bounds[document : document + 2].tolist()
            last = min(end, behind)
            shift = int(table.bounds[cutting["order"][document]]) - first
            tokens = int(table.start[shift + last] - table.start[shift + begin])
            # Where the next document begins in this sample, the end-of-document token stands between them.
            yield int(table.source[shift + begin]), tokens + (last < end), BEGINS_DOCUMENT * (begin == first)
            begin, document = last, document + 1

    def _fill(self, number: int, allocate: Allocate) -> None:
        firsts = self._first_sentences(number)
        table = self._table
        count = table.num_documents
        arrays = allocate({"order": count, "bounds": count + 1, "first": len(firsts) + 1})
        arrays["order"][:] = self._order(number)(np.arange(count))
        arrays["bounds"][0] = 0
        np.cumsum(np.diff(table.bounds)[arrays["order"]], out=arrays["bounds"][1:])
        arrays["first"][:-1] = firsts
        arrays["first"][-1] = arrays["bounds"][-1]

    def _order(self, number: int) -> Permutation:
        return Permutation(self._table.num_documents, "documents", *self.key, number)

    def _sentences(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Tokens of each sentence, and whether it begins its document, a block of documents at a time."""
        table, order = self._table, self._order(number)
        for begin in range(0, table.num_documents, _BLOCK_DOCUMENTS):
            chosen = order(np.arange(begin, min(begin + _BLOCK_DOCUMENTS, table.num_documents)))
            sizes = table.bounds[chosen + 1] - table.bounds[chosen]
            ends = np.cumsum(sizes)
            sentences = np.arange(int(ends[-1])) + np.repeat(table.bounds[chosen] - (ends - sizes), sizes)
            begins = np.zeros(len(sentences), dtype=np.int64)
            begins[ends - sizes] = 1
            yield table.start[sentences + 1] - table.start[sentences], begins

    def _first_sentences(self, number: int) -> list[int]:
        """The first sentence of each sample, as many sentences in each as have room."""
        firsts: list[int] = []
        before, used, is_open = 0, 0, False
        for lengths, begins in self._sentences(number):
            # A document that begins within a sample costs the end-of-document token of the one before, too.
            costs = [0, *np.cumsum(lengths + begins).tolist()]
            at, count = 0, len(lengths)
            while at < count:
                if not is_open:
                    firsts.append(before + at)
                    used = -int(begins[at])
                behind = bisect_right(costs, costs[at] + self._room - used, lo=at) - 1
                used += costs[behind] - costs[at]
                is_open, at = behind == count, behind
            before += count
        return firsts
