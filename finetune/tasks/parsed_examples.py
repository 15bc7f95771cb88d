"""Records of files -> a task's examples of each part, by a function of the task; what cannot be used is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, field_value, identity
from finetune.tasks.example_parts import Repeated, limit_parts, read_parts, repeated_texts, told_repeated
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
        bad: records that were left out.
        first_bad: what the first of them were, for people.
        repeated: texts that stand in two parts.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)
    bad: int = 0
    first_bad: list[str] = field(default_factory=list)
    repeated: list[Repeated] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each part."""
        return {part: len(examples) for part, examples in self.parts.items()}

    def facts(self) -> dict[str, Any]:
        """For the record of a task."""
        repeated = [asdict(found) for found in self.repeated]
        return {"examples": self.counts, "bad_records": self.bad, "repeated": repeated}

    def notes(self, what: str) -> list[str]:
        """What the console says of what was left out or stands twice; `what` the examples are called."""
        lines = [f"left out    {self.bad:,} bad records, the first {self.first_bad[0]}"] if self.bad else []
        return [*lines, *told_repeated(self.repeated, self.counts, what)]


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
        records.check()
        found.bad += records.counts.records
        found.first_bad += records.counts.first
        return examples

    form = RecordForm(text_field, FIELD_KINDS, EXPECTED, key, settings)
    found.parts = limit_parts(read_parts(data, seed, ExampleReader(data, form), read), data, seed)
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
