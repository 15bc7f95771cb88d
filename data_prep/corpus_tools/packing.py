"""What becomes of a corpus' documents in samples of one length: packed end to end, or each in samples of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data_prep.corpus.corpus import Corpus
from data_prep.corpus.shard_pieces import IndexPieces


@dataclass
class Packing:
    """How documents lie in samples of `seq_length` tokens; those without tokens do not count.

    Packed, as pretraining reads a corpus: the documents in a random order end to end, cut every `seq_length` tokens. A
    border lies between two tokens of a document of n tokens with the probability min(1, (n - 1) / seq_length), so what
    is cut is an expectation over that order. Apart: each document in as many samples as it needs, the last one padded.

    Attributes:
        seq_length: tokens of a sample.
        documents, tokens: in all.
        fitting_documents, fitting_tokens: documents of at most `seq_length` tokens, and their tokens.
        cut_documents, cut_tokens: documents that a border of packed samples is expected in, and their tokens.
        parts: pieces of documents in the packed samples of an epoch, expected.
        apart_samples: samples of an epoch where no sample holds two documents.
    """

    seq_length: int
    documents: int = 0
    tokens: int = 0
    fitting_documents: int = 0
    fitting_tokens: int = 0
    cut_documents: float = 0.0
    cut_tokens: float = 0.0
    parts: float = 0.0
    apart_samples: int = 0

    @classmethod
    def of(cls, corpus: Corpus, seq_length: int) -> Packing:
        """Read the indexes of a corpus, piece by piece."""
        packing = cls(seq_length)
        for shard in corpus.shards:
            for _, starts in IndexPieces(shard).document_pieces():
                packing._add(np.diff(starts))
        return packing

    def _add(self, lengths: np.ndarray) -> None:
        lengths = lengths[lengths > 0]
        fitting = lengths[lengths <= self.seq_length]
        borders = (lengths - 1) / self.seq_length
        self.documents += len(lengths)
        self.tokens += int(lengths.sum())
        self.fitting_documents += len(fitting)
        self.fitting_tokens += int(fitting.sum())
        self.cut_documents += float(np.minimum(1, borders).sum())
        self.cut_tokens += float((np.minimum(1, borders) * lengths).sum())
        self.parts += len(lengths) + float(borders.sum())
        self.apart_samples += int((-(-lengths // self.seq_length)).sum())

    @property
    def packed_samples(self) -> int:
        """Samples of an epoch where they are packed; the last one goes on with the next epoch."""
        return -(-self.tokens // self.seq_length)

    @property
    def apart_padding(self) -> float:
        """Share of the places that are padding where no sample holds two documents; packed, there is none."""
        return 1 - self.tokens / max(1, self.apart_samples * self.seq_length)

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        derived = {"packed_samples": self.packed_samples, "apart_padding": self.apart_padding}
        return asdict(self) | derived | {"documents_per_sample": self.parts / max(1, self.packed_samples)}

    def lines(self) -> Iterator[str]:
        """It in words."""
        documents, tokens, packed = max(1, self.documents), max(1, self.tokens), self.packed_samples
        yield f"\nsamples of {self.seq_length:,} tokens, for an epoch of all documents"
        yield (
            f"  fit     {self.fitting_documents:,} documents ({self.fitting_documents / documents:.1%}) of at most that"
            f" many tokens, {self.fitting_tokens / tokens:.1%} of all tokens"
        )
        yield (
            f"  packed  {packed:,} samples, no padding, {self.parts / max(1, packed):.2f} documents or parts of one in"
            f" each; about {self.cut_documents:,.0f} documents ({self.cut_documents / documents:.1%}) with"
            f" {self.cut_tokens / tokens:.1%} of all tokens are cut"
        )
        yield f"  apart   {self.apart_samples:,} samples, {self.apart_padding:.1%} padding, one document in each"
