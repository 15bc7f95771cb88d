"""Samples of two parts of text: what `SentencePairs` finds sample number n with."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pretrain.config.sampling import PairSampleCutting, SampleCutting
from pretrain.data.counter_random import CounterRandom
from pretrain.data.documents import Documents
from pretrain.data.epoch_cuttings import CUTTINGS, EpochCuttings
from pretrain.data.index_file import Allocate, Arrays
from pretrain.data.long_sentences import DrawnCuts
from pretrain.data.pair_cutting import PAIR_ARRAYS, PairCounts, PairCutter
from pretrain.data.samples import Origin, Samples
from pretrain.data.sentences import SentenceTable

if TYPE_CHECKING:
    from data_prep.corpus import Corpus


class SentencePairs(EpochCuttings):
    """Samples of one part of one corpus, by number: a first and a second part, one after the other.

    Every sentence is in a first part or in a true second part once per epoch; random second parts come on top. A
    sentence longer than half of the room counts as several, cut at drawn places, so that two always find room.
    `Samples.extras` has the tokens of each part, and `pair_label`: 0 where the second part follows the first in the
    text, 1 where it is random or the two are swapped, -1 where there is none.

    Args:
        corpus: where the tokens are; tokenized with sentences=true.
        documents: the part.
        sampling: room and kind of the pairs.
        seed: decides cuttings, random parts and orders.
        endless: whether epoch follows epoch; if not, the same one epoch comes again and again.

    Raises:
        DataError: if the corpus does not keep sentences.
        ValueError: if there are too few documents or sentences for the kind of pairs.
    """

    extras: tuple[str, ...] = ("first_tokens", "second_tokens", "pair_label")

    def __init__(
        self, corpus: Corpus, documents: Documents, sampling: SampleCutting, seed: int, *, endless: bool
    ) -> None:
        assert isinstance(sampling, PairSampleCutting)
        super().__init__(corpus, documents, sampling, "pairs", seed, endless=endless)
        self._sampling = sampling
        self._cuts = DrawnCuts(sampling.stride_tokens // 2, seed)
        self._table = SentenceTable.read(corpus, documents, self._cuts)
        sizes = np.diff(self._table.bounds)
        if sampling.pairs == "next_sentence" and len(sizes) < 2:
            raise ValueError("random second parts need two documents")
        if sampling.pairs == "sentence_order" and not bool((sizes >= 2).any()):
            raise ValueError("sentence order needs a document of two sentences")

    def num_samples(self, cutting: Arrays) -> int:
        """See the base class."""
        return len(cutting["label"])

    def counts(self, epoch: int) -> PairCounts:
        """What became of the sentences in an epoch."""
        return PairCounts.from_array(self.cutting(epoch % CUTTINGS)["counts"])

    def notes(self) -> list[str]:
        """What became of the sentences of the first epoch, in words."""
        counts = self.counts(0)
        told = [f"{counts.samples:,} pairs in the first epoch"]
        if counts.random_seconds:
            told.append(
                f"{counts.random_seconds:,} with a random second part ({counts.random_tokens:,} tokens besides)"
            )
        if counts.forced_seconds:
            told.append(f"{counts.forced_seconds:,} of those because nothing followed")
        if counts.alone:
            told.append(f"{counts.alone:,} without a second part")
        return [f"{self.corpus.path}: {', '.join(told)}"]

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers`, int64 [n], into `rows`, int64 [n], of `samples`."""
        pairs = self._pairs(numbers)
        for row, (first, first_tokens, second, second_tokens, _) in zip(rows.tolist(), pairs.tolist()):
            out, both = samples.tokens[row], first_tokens + second_tokens
            out[:first_tokens] = self.tokens.at(first, first_tokens)
            if second_tokens:
                out[first_tokens:both] = self.tokens.at(second, second_tokens)
        _, samples.extras["first_tokens"][rows], _, samples.extras["second_tokens"][rows], label = pairs.T
        samples.extras["pair_label"][rows] = label
        samples.num_tokens[rows] = pairs[:, 1] + pairs[:, 3]

    def origins(self, number: int) -> list[Origin]:
        """Where the two parts of sample `number` come from."""
        first, first_tokens, second, second_tokens, _ = self._pairs(np.array([number]))[0].tolist()
        parts = [(first, first_tokens), (second, second_tokens)]
        return [self.tokens.origin(source, length) for source, length in parts if length]

    def _pairs(self, numbers: np.ndarray) -> np.ndarray:
        """The five numbers of each sample's pair, in the order of `PAIR_ARRAYS`, int64 [n, 5]."""
        pairs = np.empty((len(numbers), len(PAIR_ARRAYS)), dtype=np.int64)
        for rows, arrays, places in self.located(numbers):
            for column, name in enumerate(PAIR_ARRAYS):
                pairs[rows, column] = arrays[name][places]
        return pairs

    def make_cutting(self, number: int) -> Arrays:
        """See the base class."""
        sampling = self._sampling
        what = (
            f"{sampling.pairs} pairs of {sampling.stride_tokens} tokens, {sampling.short_rate} short,"
            f" of whole sentences {self._cuts.identity}, cutting {number} of {' '.join(map(str, self.key))}"
        )
        return self.documents.built("pairs", what, lambda allocate: self._fill(number, allocate))

    def _fill(self, cutting: int, allocate: Allocate) -> None:
        sampling = self._sampling
        random = CounterRandom("pairs", *self.key, cutting)
        cutter = PairCutter(self._table, sampling.pairs, sampling.stride_tokens, sampling.short_rate, random)
        blocks = list(cutter.blocks())
        counts = sum((count for _, count in blocks), PairCounts())
        arrays = allocate(dict.fromkeys(PAIR_ARRAYS, counts.samples) | {"counts": len(counts.as_array())})
        arrays["counts"][:] = counts.as_array()
        bounds = np.cumsum([0, *(count.samples for _, count in blocks)]).tolist()
        for (columns, _), (begin, end) in zip(blocks, pairwise(bounds)):
            for name, column in zip(PAIR_ARRAYS, columns):
                arrays[name][begin:end] = column
