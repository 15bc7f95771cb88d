"""Sample number n of the run: a mixture's order of corpora over each corpus' own samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from configs.errors import DataError
from pretrain.config.objective import SampleCutting
from pretrain.data.blend import Blend
from pretrain.data.sample_index import SampleIndex, has_joins
from pretrain.data.samples import Origin, Samples


class SampleStream:
    """The samples of a training, validation or test set, by number, from 0.

    A training stream is endless. An evaluation stream has `num_samples`: of one corpus each token is a label once; of
    a mixture the weights hold, and it goes on until every corpus was read once, the smaller ones more often. Numbers
    beyond it give samples without labels, so that a last global batch is whole.

    Args:
        name: what it is called in messages.
        parts: the corpora's samples, all endless or none.
        weights: their relative weights.
        sampling: how the corpora are cut into samples.
        vocab_size: ids must be below it.
        first_sample: number of the first sample that this mixture gives.
        given: samples of each part that were given before that one; None: none.

    Attributes:
        given: those, int64 [parts].
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[SampleIndex],
        weights: Sequence[float],
        sampling: SampleCutting,
        vocab_size: int,
        *,
        first_sample: int = 0,
        given: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.parts = list(parts)
        self.sampling = sampling
        self.vocab_size = vocab_size
        self.first_sample = first_sample
        self.blend = Blend(weights)
        self.given = np.zeros(len(self.parts), dtype=np.int64) if given is None else np.array(given, dtype=np.int64)
        self._joins = any(has_joins(part) for part in self.parts)

    @property
    def num_samples_per_epoch(self) -> int:
        """Samples after which every corpus was read at least once."""
        counts = self.blend.counts.tolist()
        return max(
            -(-part.num_samples_per_epoch * self.blend.period // count) for part, count in zip(self.parts, counts)
        )

    @property
    def num_samples(self) -> int | None:
        """Samples of an evaluation stream; None: endless."""
        return None if self.parts[0].endless else self.num_samples_per_epoch

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which part gives each sample, and its number within that part; see `Blend.locate`."""
        positions, inner = self.blend.locate(np.asarray(numbers, dtype=np.int64) - self.first_sample)
        return positions, inner + self.given[positions]

    def sample(self, number: int) -> np.ndarray:
        """Tokens of one sample, int64 [stride + overlap].

        Raises:
            DataError: see `read`.
        """
        return self.samples([number])[0]

    def samples(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Tokens of some samples, int64 [n, stride + overlap].

        Raises:
            DataError: see `read`.
        """
        return self.read(np.asarray(numbers, dtype=np.int64)).tokens

    def read(self, numbers: np.ndarray) -> Samples:
        """Some samples, int64 [n], with what an objective needs to know about them.

        Raises:
            DataError: if a token is outside the vocabulary; names shard and document.
            IndexError: if a number is below `first_sample`.
        """
        if numbers.size and int(numbers.min()) < self.first_sample:
            raise IndexError(f"sample number {int(numbers.min())}, below {self.first_sample}")
        samples = Samples.empty(numbers, self.sampling, self.parts[0].extras, joins=self._joins)
        positions, inner = self.locate(numbers)
        within = np.full(len(numbers), True) if self.num_samples is None else numbers < self.num_samples
        for position, part in enumerate(self.parts):
            rows = np.flatnonzero((positions == position) & within)
            if rows.size:
                part.read_into(inner[rows], samples, rows)
        self._check_vocabulary(numbers, samples)
        return samples

    def provenance(self, number: int) -> list[Origin]:
        """Which documents sample `number` is made of; empty beyond the end of an evaluation stream."""
        if self.num_samples is not None and number >= self.num_samples:
            return []
        positions, inner = self.locate(np.array([number]))
        return self.parts[int(positions[0])].origins(int(inner[0]))

    def prepare(self, number: int) -> None:
        """Have the indexes at hand that reading on from sample `number` needs; may wait for another process."""
        positions, inner = self.locate(np.arange(number, number + self.blend.period))
        for position, part in enumerate(self.parts):
            part.prepare(int(inner[positions == position][0]))

    def _check_vocabulary(self, numbers: np.ndarray, samples: Samples) -> None:
        tokens = samples.tokens
        if not tokens.size or (int(tokens.max()) < self.vocab_size and int(tokens.min()) >= 0):
            return
        row, column = (int(x[0]) for x in np.nonzero((tokens >= self.vocab_size) | (tokens < 0)))
        begin = 0
        for origin in self.provenance(int(numbers[row])):
            if column < begin + origin.num_tokens:
                raise DataError(
                    f"document {origin.document} has the id {int(tokens[row, column])} at its token"
                    f" {origin.offset_tokens + column - begin} (sample {int(numbers[row])} of {self.name})",
                    where=origin.shard,
                    expected=f"ids from 0 to {self.vocab_size - 1}, the vocabulary that the model is built with",
                )
            begin += origin.num_tokens
        raise AssertionError(f"sample {int(numbers[row])} changed while it was read")
