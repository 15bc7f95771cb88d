"""Records of files -> a task's examples of each part, by a function of the task; what cannot be used is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, field_value, identity
from finetune.tasks.example_parts import (
    LeftOut,
    Repeated,
    limit_parts,
    read_parts,
    repeated_texts,
    told_left_out,
    told_repeated,
)
from finetune.tasks.examples_config import ExamplesData

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

FIELD_KINDS = frozenset(("jsonl", "json", "csv", "tsv", "parquet", "arrow"))
"""Kinds of files whose records have fields."""
EXPECTED = "JSON lines, CSV, TSV (.jsonl, .csv, .tsv, also .gz or .zst), Parquet or a dataset"
Parse = Callable[["Document", str, str], Any]
"""A record, its id, and how messages name it -> an example; raises `DataError` where it is none."""


@dataclass
class ParsedExamples:
    """What was read.

    Attributes:
        parts: the examples of each part.
        malformed: records that cannot be used, by the part that names their files.
        repeated: texts that stand in two parts.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)
    malformed: dict[str, LeftOut] = field(default_factory=dict)
    repeated: list[Repeated] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each part."""
        return {part: len(examples) for part, examples in self.parts.items()}

    def facts(self) -> dict[str, Any]:
        """For the record of a task."""
        malformed = {part: asdict(found) for part, found in self.malformed.items()}
        return {"examples": self.counts, "malformed": malformed, "repeated": [asdict(found) for found in self.repeated]}

    def notes(self, what: str) -> Iterator[str]:
        """What the console says of what was left out or stands twice; `what` the examples are called."""
        yield from told_left_out(self.malformed)
        yield from told_repeated(self.repeated, self.counts, what)


def parse_examples(
    data: ExamplesData, seed: int, parse: Parse, text_field: str, key: str, settings: Mapping[str, Any] | None = None
) -> ParsedExamples:
    """Read, split, limit; the same for every process and every order of the lines.

    Args:
        data: which files, and the split.
        seed: decides the split and the choice.
        parse: makes an example of a record.
        text_field: what a record has in any case.
        key: the setting that says so.
        settings: what else the readers are told.

    Raises:
        DataError: unreadable input, too many bad records, a file that trains and is measured, a part without examples.
    """
    found = ParsedExamples()

    def read(records: Records) -> list[Any]:
        examples = []
        for document, path in records:
            name = identity(document, data.id_field)
            try:
                examples.append(parse(document, name, f"{path}, {name}"))
            except DataError as error:
                records.leave_out(error)
        return examples

    form = RecordForm(text_field, FIELD_KINDS, EXPECTED, key, settings)
    parts, found.malformed = read_parts(data, seed, ExampleReader(data, form), read)
    found.parts = limit_parts(parts, data, seed)
    for part, examples in found.parts.items():
        if not examples:
            raise DataError(
                "has no examples", where=f"data.{part}_texts", expected="more of them, or another data.split"
            )
    found.repeated = list(repeated_texts(found.parts))
    return found


def text_value(document: Document, name: str, key: str, where: str) -> str:
    """The text in a field.

    Raises:
        DataError: no such field, no text, or an empty one.
    """
    value = field_value(document, name, key, where)
    if not isinstance(value, str) or not value.strip():
        what = "is empty" if isinstance(value, str) else f"holds {type(value).__name__}"
        raise DataError(f"its field {name!r} {what}", where=where, expected="a text")
    return value
