"""Samples as they are read: tokens, how many there are, where documents begin, which number each has in the run.

Shape letters: B samples, W tokens in each (the stride and the overlap of the objective's `SampleCutting`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretrain.config.objective import SampleCutting


@dataclass(frozen=True)
class Samples:
    """Some samples, in the order in which they were asked for.

    Attributes:
        tokens: int64 [B, W]; 0 beyond `num_tokens`.
        num_tokens: int64 [B], how many tokens each sample has; W but at the end of an evaluation set, or where an
            index makes samples of different lengths.
        numbers: int64 [B], each sample's number in the run, from 0.
        document_starts: bool [B, W], whether a token is the first of a document, or of what is left of one where a
            part of it was read before, at another sample length; None if nobody asked.
        joined: bool [B, W], whether a token does not follow, in the text, on the one before it, which is no context
            for it; None where none is: only the rest of an epoch that is read at another length has such places.
        sentence_starts: bool [B, W], whether a token is the first of a sentence; None if nobody asked.
        answers: bool [B, W], whether a token is one that the model is to say, of a conversation; None if nobody asked.
        extras: int64 [B] each: what an index says of each sample besides, by name.
        batch_start: number of the first sample of the global batch that they belong to.
    """

    tokens: np.ndarray
    num_tokens: np.ndarray
    numbers: np.ndarray
    document_starts: np.ndarray | None = None
    joined: np.ndarray | None = None
    sentence_starts: np.ndarray | None = None
    answers: np.ndarray | None = None
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    batch_start: int = 0

    @classmethod
    def empty(
        cls, numbers: np.ndarray, sampling: SampleCutting, extras: Iterable[str] = (), *, joins: bool = False
    ) -> Samples:
        """Room for the samples `numbers`: token 0 everywhere, no tokens counted; with `joined` where `joins` says."""
        shape = (len(numbers), sampling.stride_tokens + sampling.overlap_tokens)
        return cls(
            tokens=np.zeros(shape, dtype=np.int64),
            num_tokens=np.zeros(len(numbers), dtype=np.int64),
            numbers=np.asarray(numbers, dtype=np.int64),
            document_starts=np.zeros(shape, dtype=np.bool_) if sampling.marks_documents else None,
            joined=np.zeros(shape, dtype=np.bool_) if joins else None,
            sentence_starts=np.zeros(shape, dtype=np.bool_) if sampling.marks_sentences else None,
            answers=np.zeros(shape, dtype=np.bool_) if sampling.marks_answers else None,
            extras={name: np.zeros(len(numbers), dtype=np.int64) for name in extras},
        )

    def rows(self, begin: int, end: int, batch_start: int = 0) -> Samples:
        """Samples [begin, end), as views."""
        starts, joined, sentences = self.document_starts, self.joined, self.sentence_starts
        return Samples(
            tokens=self.tokens[begin:end],
            num_tokens=self.num_tokens[begin:end],
            numbers=self.numbers[begin:end],
            document_starts=None if starts is None else starts[begin:end],
            joined=None if joined is None else joined[begin:end],
            sentence_starts=None if sentences is None else sentences[begin:end],
            answers=None if self.answers is None else self.answers[begin:end],
            extras={name: values[begin:end] for name, values in self.extras.items()},
            batch_start=batch_start,
        )


@dataclass(frozen=True)
class Origin:
    """Where a stretch of a sample's tokens comes from.

    Attributes:
        shard: prefix of the shard's files.
        document: number of the document in the shard.
        offset_tokens: place of the stretch's first token in the document.
        num_tokens: length of the stretch.
    """

    shard: Path
    document: int
    offset_tokens: int
    num_tokens: int

    def __str__(self) -> str:
        end = self.offset_tokens + self.num_tokens
        return f"{self.shard} document {self.document} tokens [{self.offset_tokens}, {end})"
