"""The micro-batches of a global batch that one data rank runs, read ahead by a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

import numpy as np

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.data.stream import SampleStream


class BatchMaker(Protocol):
    """What turns samples into a micro-batch: the part of an objective that a loader needs."""

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """The micro-batch of `samples`, with its number in the global batch."""
        ...


class BatchLoader:
    """Gives the micro-batches that one data rank runs in a step.

    Micro-batch m of data rank r has the number g = m * data_size + r, and holds the samples from
    consumed_samples + g * micro_batch_size on: which samples make up number g does not depend on the layout.

    Args:
        stream: where the samples come from.
        objective: what makes a micro-batch of them.
        micro_batch_size: samples in one.
        data_rank: this rank's place on the data axis.
        data_size: ranks on it.
        prefetch_batches: global batches that a thread reads ahead, at the pace seen last; 0: no thread.
    """

    def __init__(
        self,
        stream: SampleStream,
        objective: BatchMaker,
        micro_batch_size: int,
        data_rank: int = 0,
        data_size: int = 1,
        prefetch_batches: int = 0,
    ) -> None:
        if not 0 <= data_rank < data_size:
            raise ValueError(f"data rank {data_rank} of {data_size}")
        self.stream = stream
        self._objective = objective
        self._micro_batch_size = micro_batch_size
        self._data_rank = data_rank
        self._data_size = data_size
        self._prefetch_batches = prefetch_batches
        self._reader: ThreadPoolExecutor | None = None
        if prefetch_batches:
            self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"read-{stream.name}")
        self._coming: dict[tuple[int, int], Future[list[MicroBatch]]] = {}

    def global_batch(self, consumed_samples: int, global_batch_size: int) -> list[MicroBatch]:
        """The micro-batches of this data rank, of the global batch that begins at sample `consumed_samples`.

        Any batch can be asked for at any time; asking for one after the other is what is read ahead.

        Raises:
            DataError: if a token is outside the vocabulary.
            ValueError: if the batch is not a multiple of micro_batch_size x data_size, or the loader is closed.
        """
        at_once = self._micro_batch_size * self._data_size
        if global_batch_size <= 0 or global_batch_size % at_once:
            raise ValueError(f"global batch of {global_batch_size} samples is not a multiple of {at_once}")
        if not self._prefetch_batches:
            return self._read(consumed_samples, global_batch_size)
        wanted = (consumed_samples, global_batch_size)
        ahead = [
            (consumed_samples + i * global_batch_size, global_batch_size) for i in range(self._prefetch_batches + 1)
        ]
        for key in [key for key in self._coming if key not in ahead]:
            self._coming.pop(key).cancel()
        for key in ahead:
            if key not in self._coming and (key == wanted or self._exists(key[0])):
                self._coming[key] = self._submit(*key)
        return self._coming.pop(wanted).result()

    def num_batches(self, global_batch_size: int, at_most: int) -> int:
        """Global batches until the end of an evaluation stream, but no more than `at_most`."""
        if self.stream.num_samples is None:
            return at_most
        return min(at_most, -(-self.stream.num_samples // global_batch_size))

    def close(self) -> None:
        """Stop reading ahead and end the thread; waits for the batch that is being read."""
        for future in self._coming.values():
            future.cancel()
        self._coming.clear()
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
            self._reader = None

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, consumed_samples: int, global_batch_size: int) -> Future[list[MicroBatch]]:
        if self._reader is None:
            raise ValueError(f"the loader of {self.stream.name} is closed")
        return self._reader.submit(self._read, consumed_samples, global_batch_size)

    def _exists(self, number: int) -> bool:
        return self.stream.num_samples is None or number < self.stream.num_samples

    def _read(self, consumed_samples: int, global_batch_size: int) -> list[MicroBatch]:
        size = self._micro_batch_size
        micro_batches = global_batch_size // size // self._data_size
        numbers = np.arange(micro_batches) * self._data_size + self._data_rank
        firsts = consumed_samples + numbers * size
        samples = self.stream.read((firsts[:, None] + np.arange(size)).ravel())
        return [
            self._objective.batch(samples.rows(m * size, (m + 1) * size, consumed_samples), number)
            for m, number in enumerate(numbers.tolist())
        ]
