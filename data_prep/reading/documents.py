"""What flows through data preparation: documents, alone or in batches; and the count of records that were none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from configs.errors import DataError, printable
from data_prep.config import SourceConfig

MAX_SHOWN = 5
NO_TEXT = "no text"
Reason = Literal["malformed", "too_long", "damaged_files", "other_content"]


class DamagedFileError(DataError):
    """A file that ends too early or breaks in the middle; what came before it was good."""


class RecordError(DataError):
    """A record that cannot be used.

    Args:
        problem: what is wrong, in all detail.
        kind: the same in few words, equal for equal problems; `NO_TEXT` where it is that there is none.
        raw: the record.
        place: where it is in its file, as in `Batch.places`.
        records: how many records it counts for: the lines that a broken row of a table took.
        others: as of any `UserError`.
    """

    def __init__(
        self,
        problem: str,
        *,
        kind: str = "",
        raw: str | bytes = "",
        place: int | None = None,
        records: int = 1,
        **others: Any,
    ) -> None:
        super().__init__(problem, **others)
        self.kind, self.raw, self.place, self.records = kind or problem, raw, place, records


@dataclass(slots=True)
class Document:
    """A piece of text that stands for itself.

    Attributes:
        text: the text, as it was found.
        id: its own, or the name of its file and where it begins there; files of one name have the same ids.
        metadata: the other fields of its record.
    """

    text: str
    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Documents of one file in order, as the hot loop wants them.

    Attributes:
        texts: their texts.
        metadata: for each its `id` and the fields that were asked for; None when none were.
        places: where each is in its file: the byte, line or row that it begins with; None as above.
    """

    texts: list[str]
    metadata: list[dict[str, Any]] | None = None
    places: list[int] | None = None


@dataclass
class ReadCounts:
    """What a reader left out, and why.

    Attributes:
        malformed: records that cannot be read.
        too_long: records longer than `max_document_bytes`.
        damaged_files: files that break in the middle; what comes before the break was read.
        replaced: records that were read with U+FFFD for halves of surrogate pairs or, in pages, for other damage.
        other_content: records that are no documents: what else a crawler found beside pages.
        first: what the first of them were, for people.
    """

    malformed: int = 0
    too_long: int = 0
    damaged_files: int = 0
    replaced: int = 0
    other_content: int = 0
    first: list[str] = field(default_factory=list)

    def leave_out(self, error: DataError, reason: Reason, config: SourceConfig) -> None:
        """Count a record or file that cannot be used.

        Raises:
            DataError: `error`, where the settings say that it ends the work.
        """
        policy = config.damaged_files if reason == "damaged_files" else config.malformed
        if policy == "stop" and reason != "other_content":
            raise error
        records = error.records if isinstance(error, RecordError) else 1
        setattr(self, reason, getattr(self, reason) + records)
        if len(self.first) < MAX_SHOWN:
            self.first.append(printable(f"{error.where}: {error.problem}"))

    @property
    def records(self) -> int:
        """Records left out."""
        return self.malformed + self.too_long
