"""A part of one input file that one task reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["text", "jsonl", "parquet", "arrow"]
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class WorkUnit:
    """A part of one input file, small enough to be one task.

    Attributes:
        path: the file.
        kind: what is in it, after decompression.
        start, stop: bytes of a text or JSON file, row groups of a Parquet file, record batches of an Arrow file;
            `stop` None: to the end.
        size_bytes: about how much of the file this is, for progress.
    """

    path: Path
    kind: Kind
    start: int
    stop: int | None
    size_bytes: int

    @property
    def compression(self) -> str | None:
        """`.gz`, `.zst` or None."""
        return self.path.suffix if self.path.suffix in COMPRESSIONS else None
