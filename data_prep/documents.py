"""What flows through data preparation: a document; and the count of records that were none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Document:
    """A piece of text that stands for itself.

    Attributes:
        text: the text, as it was found.
        id: where it comes from, unique within its source.
        metadata: the other fields of its record.
    """

    text: str
    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ReadCounts:
    """What a reader left out."""

    malformed: int = 0
