"""Samples as they are read: tokens, how many of them count as labels, where documents begin.

Shape letters: B samples, S tokens that the model reads in each (seq_length).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Samples:
    """Some samples, in the order in which they were asked for.

    Attributes:
        tokens: int64 [B, S + 1]; each sample's last token is only a label.
        num_labels: int64 [B], how many of each sample's S labels count; S but at the end of an evaluation set.
        document_starts: bool [B, S + 1], whether a token is the first of a document; None if nobody asked.
    """

    tokens: np.ndarray
    num_labels: np.ndarray
    document_starts: np.ndarray | None

    @classmethod
    def empty(cls, count: int, seq_length: int, *, mark_documents: bool) -> Samples:
        """Room for `count` samples: token 0 everywhere, no labels."""
        shape = (count, seq_length + 1)
        return cls(
            np.zeros(shape, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(shape, dtype=np.bool_) if mark_documents else None,
        )

    def rows(self, begin: int, end: int) -> Samples:
        """Samples [begin, end), as views."""
        starts = self.document_starts
        return Samples(
            self.tokens[begin:end], self.num_labels[begin:end], None if starts is None else starts[begin:end]
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
