"""The documents of one part (train, validation, test) of a corpus, in its own order and shuffled for each epoch.

Tokens are addressed by their place in the whole corpus, shards laid end to end, so that nothing but the builder of an
index ever looks into the shards' own document tables.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corpus.split import PARTS, PartName, part_of_documents
from pretrain.data.index_file import Allocate, Arrays, Build, built_in_memory, built_on_disk
from pretrain.data.permutation import Permutation, derive_key

if TYPE_CHECKING:
    from data_prep.corpus import Corpus

IN_MEMORY_DOCUMENTS = 1 << 17
"""Corpora up to this size have no index files: computing the order anew takes milliseconds."""
_CHUNK = 1 << 20
_EPOCHS_KEPT = 2


class Documents:
    """The documents of one part of a corpus that have any tokens.

    Args:
        corpus: what they come from.
        part: which of its parts; `all` for the whole.
        split: shares of the parts.
        cache: directory for index files; used only above `in_memory_documents`.
        in_memory_documents: corpora with more documents than this get index files.

    Attributes:
        source: place of each document's first token in the corpus, int64 [documents].
        length: tokens of each document, int64 [documents].
        num_tokens: tokens of all of them.
    """

    def __init__(
        self,
        corpus: Corpus,
        part: PartName,
        split: tuple[float, float, float],
        cache: Path,
        in_memory_documents: int = IN_MEMORY_DOCUMENTS,
    ) -> None:
        self._cache = cache if corpus.num_documents > in_memory_documents else None
        self._identity = f"corpus {corpus.fingerprint}, part {part}" + (f" of {split}" if part != "all" else "")
        arrays = self._built("documents", self._identity, lambda allocate: _select(corpus, part, split, allocate))
        self.source = arrays["source"]
        self.length = arrays["length"]
        self.num_tokens = int(arrays["num_tokens"][0])

    def __len__(self) -> int:
        return len(self.source)

    def _built(self, name: str, identity: str, build: Build) -> Arrays:
        if self._cache is None:
            return built_in_memory(build)
        return built_on_disk(self._cache / f"{name}-{derive_key(identity).hex()[:16]}.index", identity, build)

    def built(self, name: str, what: str, build: Build) -> Arrays:
        """What `build` makes of these documents: in memory, or of a large corpus in an index file.

        Args:
            name: what the file's name begins with.
            what: says what is made, and all that it depends on beside the documents.
            build: fills the arrays.
        """
        return self._built(name, f"{self._identity}, {what}", build)

    def order(self, epoch: int, *key: int | str) -> Arrays:
        """The documents laid end to end in the order of an epoch.

        Returns:
            `source`: int64 [documents]; `start`: where each begins in the epoch, int64 [documents + 1].
        """
        identity = f"{self._identity}, epoch {epoch} of {' '.join(map(str, key))}"
        return self._built("order", identity, lambda allocate: self._shuffle(self._permutation(epoch, *key), allocate))

    def head(self, epoch: int, num_tokens: int, *key: int | str) -> Arrays:
        """The first documents of `order`, enough for `num_tokens`, without computing the rest."""
        permutation, count = self._permutation(epoch, *key), 16
        while True:
            count = min(2 * count, len(self))
            chosen = permutation(np.arange(count))
            start = np.concatenate([[0], np.cumsum(self.length[chosen])])
            if start[-1] >= num_tokens or count == len(self):
                return {"source": self.source[chosen], "start": start}

    def _permutation(self, epoch: int, *key: int | str) -> Permutation:
        return Permutation(len(self), "documents", *key, epoch)

    def _shuffle(self, permutation: Permutation, allocate: Allocate) -> None:
        arrays = allocate({"source": len(self), "start": len(self) + 1})
        arrays["start"][0] = total = 0
        for begin in range(0, len(self), _CHUNK):
            end = min(begin + _CHUNK, len(self))
            chosen = permutation(np.arange(begin, end))
            arrays["source"][begin:end] = self.source[chosen]
            arrays["start"][begin + 1 : end + 1] = total + np.cumsum(self.length[chosen])
            total = int(arrays["start"][end])


class EpochOrders:
    """The orders of the epochs that are being read, computed when first asked for."""

    def __init__(self, documents: Documents, *key: int | str) -> None:
        self.documents = documents
        self._key = key
        self._orders: OrderedDict[int, Arrays] = OrderedDict()
        self._lock = threading.Lock()

    def order(self, epoch: int) -> Arrays:
        """See `Documents.order`."""
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = self.documents.order(epoch, *self._key)
                if len(self._orders) > _EPOCHS_KEPT:
                    self._orders.popitem(last=False)
            self._orders.move_to_end(epoch)
            return self._orders[epoch]

    def head(self, epoch: int, num_tokens: int) -> Arrays:
        """See `Documents.head`."""
        return self.documents.head(epoch, num_tokens, *self._key)


def _select(corpus: Corpus, part: PartName, split: tuple[float, float, float], allocate: Allocate) -> None:
    from data_prep.corpus.shards import ShardReader

    wanted = None if part == "all" else PARTS.index(part)

    first_documents = np.cumsum([0] + [shard.num_documents for shard in corpus.shards])
    first_tokens = np.cumsum([0] + [shard.num_tokens for shard in corpus.shards])
    chosen = []
    for shard, first in zip(corpus.shards, first_documents.tolist()):
        # A reader of its own, gone after use: the corpus' readers would keep their tables in memory for good.
        keep = np.diff(ShardReader(shard.prefix).document_offsets) > 0
        if wanted is not None:
            for begin in range(0, len(keep), _CHUNK):
                numbers = np.arange(begin, min(begin + _CHUNK, len(keep))) + first
                keep[begin : begin + _CHUNK] &= part_of_documents(numbers, split) == wanted
        chosen.append(keep)
    count = sum(int(np.count_nonzero(keep)) for keep in chosen)
    arrays = allocate({"source": count, "length": count, "num_tokens": 1})
    begin = total = 0
    for shard, first_token, keep in zip(corpus.shards, first_tokens.tolist(), chosen):
        offsets = ShardReader(shard.prefix).document_offsets
        end = begin + int(np.count_nonzero(keep))
        arrays["source"][begin:end] = first_token + offsets[:-1][keep]
        arrays["length"][begin:end] = np.diff(offsets)[keep]
        total += int(arrays["length"][begin:end].sum())
        begin = end
    arrays["num_tokens"][0] = total
