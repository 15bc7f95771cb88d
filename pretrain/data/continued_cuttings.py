"""A corpus of which an epoch was begun in one cutting, and whose later epochs are cut otherwise."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pretrain.config.sampling import PairSampleCutting, SampleCutting
from pretrain.data.sample_index import SampleIndex
from pretrain.data.samples import Origin, Samples


class Cuttings(SampleIndex, Protocol):
    """An index that cuts a corpus anew for each epoch; see `EpochCuttings`."""

    sampling: SampleCutting

    def epoch_of(self, number: int) -> int:
        """The epoch of sample `number`."""
        ...

    def first_sample(self, epoch: int) -> int:
        """Number of the first sample of an epoch."""
        ...

    def cut_as(self, sampling: SampleCutting) -> Cuttings:
        """All epochs, cut otherwise."""
        ...


class ContinuedCuttings:
    """The rest of an epoch as it was cut, then the following epochs as they are to be cut.

    Which sentences stand together was decided for the whole epoch, so that its rest stays as it is: samples that have
    fewer tokens than the later ones.

    Args:
        before: the cuttings that were read so far.
        taken: samples of them that were read.
        sampling: how later epochs are to be cut: samples of the same kind, with as much room or more.

    Raises:
        ValueError: if the rest of the epoch does not fit.
    """

    def __init__(self, before: Cuttings, taken: int, sampling: SampleCutting) -> None:
        self._before, self._taken = before, taken
        epoch = before.epoch_of(taken)
        begun = before.first_sample(epoch) < taken
        self._rest = before.first_sample(epoch + 1) - taken if begun else 0
        self._after = before.cut_as(sampling)
        if self._rest:
            _check_fits(before.sampling, sampling)
        self._first = self._after.first_sample(epoch + begun)
        self.corpus, self.documents, self.extras = before.corpus, before.documents, before.extras
        self.endless = before.endless

    @property
    def num_samples_per_epoch(self) -> int:
        """Samples of an epoch as later ones are cut."""
        return self._after.num_samples_per_epoch

    def continued(self, sampling: SampleCutting, taken: int) -> ContinuedCuttings:
        """See `Continuing`."""
        if taken < self._rest:
            return ContinuedCuttings(self._before, self._taken + taken, sampling)
        return ContinuedCuttings(self._after, self._first + taken - self._rest, sampling)

    def rest_notes(self) -> list[str]:
        """See `Continuing`."""
        if not self._rest:
            return []
        return [
            f"{self.corpus.path}: the {self._rest:,} samples that are left of the epoch stay as they were cut, of up"
            f" to {self._before.sampling.stride_tokens:,} tokens; those of later epochs have up to"
            f" {self._after.sampling.stride_tokens:,}"
        ]

    def prepare(self, number: int) -> None:
        """Have the cutting at hand that reading sample `number` needs."""
        if number < self._rest:
            self._before.prepare(self._taken + number)
        else:
            self._after.prepare(self._first + number - self._rest)

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers`, int64 [n], into `rows`, int64 [n], of `samples`."""
        is_rest = numbers < self._rest
        if is_rest.any():
            self._before.read_into(self._taken + numbers[is_rest], samples, rows[is_rest])
        if not is_rest.all():
            self._after.read_into(self._first + numbers[~is_rest] - self._rest, samples, rows[~is_rest])

    def origins(self, number: int) -> list[Origin]:
        """Where the tokens of sample `number` come from, in order."""
        if number < self._rest:
            return self._before.origins(self._taken + number)
        return self._after.origins(self._first + number - self._rest)


def _check_fits(before: SampleCutting, after: SampleCutting) -> None:
    if after.stride_tokens < before.stride_tokens:
        raise ValueError(
            f"an epoch was begun with up to {before.stride_tokens:,} tokens of text in a sample, and what is left of it"
            f" has no room in {after.stride_tokens:,}"
        )
    if isinstance(before, PairSampleCutting) and isinstance(after, PairSampleCutting) and before.pairs != after.pairs:
        raise ValueError("an epoch was begun with second parts of another kind")
