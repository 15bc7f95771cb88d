"""What finds sample number n in one corpus, and how it is named.

An objective's `SampleCutting.index` names one as `module:Class`: `TOKEN_STREAM` cuts the documents, laid end to end,
into windows of equal length; others are made for objectives that want something else of a corpus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from configs.kinds import resolve
from pretrain.config.objective import SampleCutting
from pretrain.data.samples import Origin, Samples

if TYPE_CHECKING:
    from data_prep.corpus import Corpus
    from pretrain.data.documents import Documents


class SampleIndex(Protocol):
    """Samples of one part of one corpus, by number. Made with (corpus, documents, sampling, seed, endless=...).

    Which sample is number n is a function of the corpus, the documents, the sampling and the seed.
    """

    corpus: Corpus
    documents: Documents
    endless: bool
    """Whether epoch follows epoch; if not, the same one epoch comes again and again (an evaluation)."""
    extras: tuple[str, ...]
    """The names of `Samples.extras` that it fills."""

    @property
    def num_samples_per_epoch(self) -> int:
        """Samples of the first epoch."""
        ...

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers` of this corpus, int64 [n], into `rows`, int64 [n], of `samples`."""
        ...

    def origins(self, number: int) -> list[Origin]:
        """Where the tokens of sample `number` come from, in order."""
        ...

    def prepare(self, number: int) -> None:
        """Have at hand what reading sample `number` needs; may wait for another process."""
        ...


@runtime_checkable
class Continuing(Protocol):
    """An index of a corpus that can be cut anew in the middle of an epoch, such as to another length of sample."""

    def continued(self, sampling: SampleCutting, taken: int) -> SampleIndex:
        """What the first `taken` samples of this one leave, cut as `sampling` says: nothing twice in an epoch.

        Raises:
            ValueError: if it cannot be; the message says why.
        """
        ...

    def rest_notes(self) -> list[str]:
        """What becomes of the rest of an epoch that was begun in another cutting, a sentence each."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An index that counts what it had to do to the text."""

    def notes(self) -> list[str]:
        """The counts of the first epoch in words, a sentence each."""
        ...


def notes_on(index: SampleIndex) -> list[str]:
    """What an index that counts what it did has to say of its first epoch, a sentence each."""
    return list(index.notes()) if isinstance(index, Counting) else []


def rest_notes_on(index: SampleIndex) -> list[str]:
    """What an index that goes on in the middle of an epoch has to say of its rest, a sentence each."""
    return list(index.rest_notes()) if isinstance(index, Continuing) else []


def has_joins(index: SampleIndex) -> bool:
    """Whether the samples of an index may have tokens that are `Samples.joined`."""
    return bool(getattr(index, "has_joins", False))


def open_index(
    corpus: Corpus, documents: Documents, sampling: SampleCutting, seed: int, *, endless: bool
) -> SampleIndex:
    """The index that `sampling` names.

    Raises:
        ValueError: if the documents do not hold one sample; the message says what there is and what is needed.
    """
    index: SampleIndex = resolve(sampling.index)(corpus, documents, sampling, seed, endless=endless)
    return index
