"""What the indexes have in common that cut a corpus anew for each epoch, into a number of samples that differs.

There are ten cuttings, as many as BERT's own program made of its corpus (`dupe_factor`); epoch e reads cutting e modulo
10 in an order of its own. Where an epoch begins follows from the sizes of the cuttings before it, so that a resume
makes, or finds in the index cache, ten of them at most.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from configs.kinds import resolve
from pretrain.config.objective import SampleCutting
from pretrain.data.continued_cuttings import ContinuedCuttings
from pretrain.data.corpus_tokens import CorpusTokens
from pretrain.data.documents import Documents
from pretrain.data.index_file import Arrays
from pretrain.data.permutation import Permutation
from pretrain.data.sample_index import open_index
from pretrain.data.samples import Origin, Samples

if TYPE_CHECKING:
    from data_prep.corpus import Corpus

CUTTINGS = 10
_CUTTINGS_KEPT = 2


class EpochCuttings(ABC):
    """Samples of one part of one corpus, by number, from cuttings that a subclass makes.

    Args:
        corpus: where the tokens are; tokenized with sentences=true.
        documents: the part.
        sampling: how they are cut.
        purpose: of the cuttings; gives their orders.
        seed: decides cuttings and orders.
        endless: whether epoch follows epoch; if not, the same one epoch comes again and again.
    """

    extras: tuple[str, ...] = ()

    def __init__(
        self, corpus: Corpus, documents: Documents, sampling: SampleCutting, purpose: str, seed: int, *, endless: bool
    ) -> None:
        self.corpus = corpus
        self.documents = documents
        self.sampling = sampling
        self.endless = endless
        self._seed = seed
        self.key = (seed, corpus.fingerprint)
        self.tokens = CorpusTokens(corpus)
        self._purpose = purpose
        self._cuttings: OrderedDict[int, Arrays] = OrderedDict()
        self._first_samples = [0]
        self._lock = threading.RLock()

    @abstractmethod
    def make_cutting(self, number: int) -> Arrays:
        """Make, or find in the index cache, cutting `number`."""

    @abstractmethod
    def num_samples(self, cutting: Arrays) -> int:
        """Samples of a cutting."""

    @abstractmethod
    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """See `SampleIndex`."""

    @abstractmethod
    def origins(self, number: int) -> list[Origin]:
        """See `SampleIndex`."""

    @property
    def num_samples_per_epoch(self) -> int:
        """Samples of the first epoch; later ones have a few more or fewer."""
        return self.num_samples(self.cutting(0))

    def cut_as(self, sampling: SampleCutting) -> EpochCuttings:
        """All epochs of the same documents, cut as `sampling` says, which names this index.

        Raises:
            ValueError: it names another.
        """
        if resolve(sampling.index) is not type(self):
            raise ValueError("samples of another kind cannot follow within an epoch")
        found = open_index(self.corpus, self.documents, sampling, self._seed, endless=self.endless)
        assert isinstance(found, EpochCuttings)
        return found

    def continued(self, sampling: SampleCutting, taken: int) -> ContinuedCuttings:
        """See `Continuing`."""
        return ContinuedCuttings(self, taken, sampling)

    def rest_notes(self) -> list[str]:
        """See `Continuing`."""
        return []

    def epoch_of(self, number: int) -> int:
        """The epoch of sample `number` of an endless index."""
        return int(self._places(np.array([number]))[0][0])

    def first_sample(self, epoch: int) -> int:
        """Number of the first sample of an epoch."""
        rounds, cutting = divmod(epoch, CUTTINGS)
        while len(self._first_samples) <= (CUTTINGS if rounds else cutting):
            self._count_another()
        return (rounds * self._first_samples[-1] if rounds else 0) + self._first_samples[cutting]

    def prepare(self, number: int) -> None:
        """Have the cutting at hand that reading sample `number` needs."""
        _, cuttings, _ = self._places(np.array([number]))
        self.cutting(int(cuttings[0]))

    def cutting(self, number: int) -> Arrays:
        """Cutting `number`, from 0 to 9."""
        with self._lock:
            if number not in self._cuttings:
                self._cuttings[number] = self.make_cutting(number)
                if len(self._cuttings) > _CUTTINGS_KEPT:
                    self._cuttings.popitem(last=False)
            self._cuttings.move_to_end(number)
            return self._cuttings[number]

    def located(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, Arrays, np.ndarray]]:
        """For each epoch among samples `numbers`, int64 [n]: which rows are of it, its cutting, their places in it."""
        epochs, cuttings, places = self._places(numbers)
        for epoch in np.unique(epochs).tolist():
            rows = np.flatnonzero(epochs == epoch)
            arrays = self.cutting(int(cuttings[rows[0]]))
            order = Permutation(self.num_samples(arrays), self._purpose, *self.key, epoch)
            yield rows, arrays, order(places[rows])

    def _count_another(self) -> None:
        """Find out where the epoch begins that follows those known."""
        with self._lock:
            number = len(self._first_samples) - 1
            self._first_samples.append(self._first_samples[-1] + self.num_samples(self.cutting(number)))

    def _places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epoch, cutting, and number within the epoch of each sample, int64 [n] each."""
        if not self.endless:
            return np.zeros_like(numbers), np.zeros_like(numbers), numbers % self.num_samples_per_epoch
        with self._lock:
            while len(self._first_samples) <= CUTTINGS and self._first_samples[-1] <= int(numbers.max()):
                self._count_another()
            firsts = np.array(self._first_samples)
        # With fewer than all cuttings, no number lies beyond them.
        rounds, within = np.divmod(numbers, firsts[-1])
        cuttings = firsts.searchsorted(within, side="right") - 1
        return rounds * CUTTINGS + cuttings, cuttings, within - firsts[cuttings]
