"""The tokens of a corpus by their place in it, shards laid end to end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pretrain.data.samples import Origin, Samples

if TYPE_CHECKING:
    from data_prep.corpus import Corpus


BEGINS_DOCUMENT = 1
JOINED = 2
Stretch = tuple[int, int, int]
"""Of one document: place of its first token in the corpus, length, and what its first token is: `BEGINS_DOCUMENT`,
`JOINED` (it does not follow, in the text, on what stands before it), both or neither."""


class CorpusTokens:
    """Reads ranges of tokens that lie within one shard.

    Args:
        corpus: where the tokens are.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._first_tokens = [0, *np.cumsum([shard.num_tokens for shard in corpus.shards]).tolist()]

    @cached_property
    def _shard_tokens(self) -> list[np.ndarray]:
        # Plain arrays over the same memory: slicing a memmap object costs microseconds each time.
        return [shard.tokens.view(np.ndarray) for shard in self._corpus.shards]

    def at(self, source: int, num_tokens: int) -> np.ndarray:
        """The tokens at places [source, source + num_tokens): a view, of the shard's type."""
        shard = bisect_right(self._first_tokens, source) - 1
        local = source - self._first_tokens[shard]
        return self._shard_tokens[shard][local : local + num_tokens]

    def fill(self, samples: Samples, row: int, stretches: Iterable[Stretch]) -> None:
        """Make `row` of `samples` of stretches, one after the other."""
        out, filled = samples.tokens[row], 0
        for source, length, first in stretches:
            # A stretch lies within one document, a document within one shard.
            out[filled : filled + length] = self.at(source, length)
            if first and samples.document_starts is not None:
                samples.document_starts[row, filled] = True
            if first & JOINED and samples.joined is not None:
                samples.joined[row, filled] = True
            filled += length
        samples.num_tokens[row] = filled

    def origin(self, source: int, num_tokens: int) -> Origin:
        """The shard and document of a range that lies within one document."""
        shard = bisect_right(self._first_tokens, source) - 1
        reader, local = self._corpus.shards[shard], source - self._first_tokens[shard]
        document = int(np.searchsorted(reader.document_offsets, local, side="right")) - 1
        return Origin(reader.prefix, document, local - int(reader.document_offsets[document]), num_tokens)
