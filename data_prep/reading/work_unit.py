"""A part of one input file, the smallest thing that one task reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Format = Literal["text", "jsonl", "csv", "tsv", "parquet", "arrow", "html", "warc"]
"""What a file may hold: tables of both kinds and those of Hugging Face datasets, web pages, archives of web pages."""
Kind = Literal[Format, "json"]


@dataclass(frozen=True)
class WorkUnit:
    """A part of one input file.

    Attributes:
        path: the file, or its URL.
        kind: what is in it, after decompression; `json`: records that are not a line each.
        start, stop: bytes of a text or JSON file, row groups of a Parquet file, record batches of an Arrow file;
            `stop` None: to the end.
        size_bytes: about how much of the file this is, for progress and balance.
    """

    path: str
    kind: Kind
    start: int
    stop: int | None
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name without its directory."""
        return PurePosixPath(self.path).name
