"""The settings of `tokenizer-report`."""

from __future__ import annotations

from pydantic import Field

from configs.paths import OutputPath
from data_prep.config import Paths, SourceConfig


class TokenizerReportConfig(SourceConfig):
    """`tokenizer-report`: how well one or more tokenizers write a sample of the documents."""

    tokenizers: Paths
    """Tokenizer directories, or vocabularies of any kind that `tokenize` takes."""
    group_by: str = "language"
    """Field of the records whose values get a row each, besides the files; nothing is guessed where it is missing."""
    max_groups: int = Field(20, ge=1)
    """Files and values that get a row, those with the most text; the others share one."""
    sample_bytes: int = Field(10_000_000, ge=1)
    """UTF-8 bytes of text that are encoded, drawn uniformly over all documents."""
    sample_share: float = Field(1.0, gt=0, le=1)
    """Share of the work units that are read at all."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Decides which documents are drawn."""
    longest: int = Field(5, ge=0)
    """How many of the longest pieces of each vocabulary are shown."""
    json_file: OutputPath | None = None
    """Write the figures there as well."""
