"""Files with fields -> examples of each part: bad records counted or refused, split, limited. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from configs.errors import DataError, UserError, nearest
from configs.section import Section
from data_prep.config import Paths
from finetune.tasks.splitting import PARTS, LabelledText, limit, split

if TYPE_CHECKING:
    from data_prep.reading.inputs import InputFile


class ExampleFiles(Section):
    """Examples in files with fields, and how they are split."""

    renamed: ClassVar[Mapping[str, str]] = {part: f"{part}_texts" for part in PARTS}

    train_texts: Paths
    """Examples: JSON lines, CSV, TSV (also .gz, .zst), Parquet, or a saved Hugging Face dataset."""
    validation_texts: Paths | None = None
    """Files that choose the best weights; null: a part of `train_texts`, as `split` says."""
    test_texts: Paths | None = None
    """Files of the final figures; null: a part of `train_texts`, as `split` says, or none where that says 0."""
    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    id_field: str = "id"
    """Field that names an example in the predictions; where it is missing, file and position do."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of `train_texts` that train, validate and test; the last two count only where no files are named. With a
    last share of 0 there is no test part."""
    split_by: str | None = None
    """Field whose equal values stay on one side of the split; null: the text that is read."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """Training examples, chosen by the seed; null: all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """The same for validation and for test."""
    max_bad_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the records that may be unusable: they are left out and counted. Above it, the first of them is told as
    an error."""

    @model_validator(mode="after")
    def _split_sums(self) -> ExampleFiles:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.8, 0.1, 0.1]")
        return self


class UnusableRecordError(Exception):
    """A record that is no example of the task; the message says why."""


class Example(Protocol):
    """What reading asks of a task's examples."""

    @property
    def id(self) -> str:
        """Names it in the predictions."""
        ...

    @property
    def group(self) -> str:
        """Examples of one group stay on one side of the split."""
        ...


ExampleClass = TypeVar("ExampleClass", bound=Example)
Parse = Callable[[Mapping[str, Any], str], ExampleClass]
"""A record and the id of its example -> the example; raises `UnusableRecordError`."""


@dataclass
class ReadExamples:
    """What was read.

    Attributes:
        parts: the examples of each part, in the order of the files.
        bad: records that were left out.
        first_bad: what the first of them were, for people.
        repeated: by part: how many of its examples are of a group that trains.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)
    bad: int = 0
    first_bad: list[str] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For the record of a task."""
        counts = {part: len(examples) for part, examples in self.parts.items()}
        return {"examples": counts, "bad_records": self.bad, "repeated": self.repeated}

    def notes(self) -> list[str]:
        """What the console says of what was left out or stands twice."""
        lines = [f"left out    {self.bad:,} bad records, the first {self.first_bad[0]}"] if self.bad else []
        known = ((part, count, len(self.parts[part])) for part, count in self.repeated.items() if count)
        return lines + [f"note: {count:,} of {total:,} {part} examples are known from train" for part, count, total in known]


def read_examples(config: ExampleFiles, text_field: str, parse: Parse[Any], seed: int) -> ReadExamples:
    """Read, split, limit; the same for every process and every order of the lines.

    Args:
        config: which files, how they are split.
        text_field: a field that every record has, with text or messages.
        parse: makes an example of a record.
        seed: decides the split and the choice.

    Raises:
        DataError: unreadable input, too many bad records, a file that trains and is measured, a part without examples.
    """
    own = {part: paths for part in PARTS if (paths := getattr(config, f"{part}_texts"))}
    files = {part: find_example_files(paths, text_field, config.quoting) for part, paths in own.items()}
    _refuse_trained_files(files)
    found = ReadExamples()
    read = {part: _read_part(some, config, text_field, parse, part, found) for part, some in files.items()}
    shares = {part: 0.0 if part in own and part != "train" else share for part, share in zip(PARTS, config.split)}
    marks = [LabelledText(str(number), "", "", each.group) for number, each in enumerate(read["train"])]
    parts = {
        part: [read["train"][int(mark.id)] for mark in marks_here]
        for part, marks_here in split(marks, shares, seed).items()
        if part == "train" or shares[part] > 0
    } | {part: read[part] for part in own if part != "train"}
    limits = {"train": config.max_train_samples}
    found.parts = {
        part: limit(parts[part], limits.get(part, config.max_eval_samples), seed) for part in PARTS if part in parts
    }
    for part, examples in found.parts.items():
        if not examples:
            raise DataError("has no examples", where=f"data.{part}_texts", expected="more of them, or another data.split")
    known = {example.group for example in found.parts["train"]}
    found.repeated = {
        part: sum(example.group in known for example in examples)
        for part, examples in found.parts.items()
        if part != "train"
    }
    return found


def find_example_files(
    paths: Sequence[str], text_field: str, quoting: Literal["double", "none"] | None = None
) -> list[InputFile]:
    """Files with fields.

    Raises:
        DataError: none there, or one without fields.
    """
    from data_prep.reading.inputs import find_files

    files = find_files(source_settings(paths, text_field, quoting))
    for file in files:
        if file.kind == "text":
            raise DataError(
                "is text without fields",
                where=file.path,
                expected="JSON lines, CSV, TSV (.jsonl, .csv, .tsv, also .gz or .zst), Parquet or a dataset",
            )
    return files


def source_settings(paths: Sequence[str], text_field: str, quoting: str | None = None) -> Any:
    """What data preparation's readers are told: bad records are counted, for the caller to judge."""
    from data_prep.config import SourceConfig

    # A name with dots may be that of a field within another.
    return SourceConfig.model_validate(
        {"input": list(paths), "text_field": text_field, "quoting": quoting, "malformed": "skip"}
    )


def field_value(record: Mapping[str, Any], name: str, key: str) -> Any:
    """The value of a field of a record, which may lie within others (`meta.text`).

    Raises:
        UnusableRecordError: there is none; names the key that says which, and the nearest field.
    """
    from data_prep.reading.records import field_names, field_of

    try:
        return field_of(record, name)
    except (KeyError, TypeError, IndexError):
        names = field_names(dict(record))
        close = nearest(name, names)
        hint = f"; did you mean {close}?" if close else ""
        raise UnusableRecordError(f"has no field {name!r} ({key}), only {', '.join(names[:12])}{hint}") from None


def text_value(record: Mapping[str, Any], name: str, key: str) -> str:
    """The text in a field.

    Raises:
        UnusableRecordError: no text, or an empty one.
    """
    value = field_value(record, name, key)
    if not isinstance(value, str):
        raise UnusableRecordError(f"its field {name!r} holds {type(value).__name__}, not a string")
    if not value.strip():
        raise UnusableRecordError(f"its field {name!r} is empty")
    return value


def group_value(record: Mapping[str, Any], split_by: str | None, default: str) -> str:
    """What keeps examples together in a split."""
    return default if split_by is None else str(field_value(record, split_by, "data.split_by"))


def _read_part(
    files: Sequence[InputFile], config: ExampleFiles, text_field: str, parse: Parse[Any], part: str, found: ReadExamples
) -> list[Any]:
    from data_prep.reading.documents import MAX_SHOWN, ReadCounts
    from data_prep.reading.inputs import work_units
    from data_prep.reading.readers import read_documents

    source = source_settings([file.path for file in files], text_field, config.quoting)
    counts, examples, problems = ReadCounts(), [], 0
    first: list[str] = []
    for unit in work_units(list(files), source):
        for document in read_documents(unit, source, counts):
            name = document.metadata.get(config.id_field)
            identity = document.id if name is None else str(name)
            try:
                examples.append(parse(document.metadata, identity))
            except UnusableRecordError as error:
                problems += 1
                if len(first) < MAX_SHOWN:
                    first.append(f"{unit.path}, {identity}: {error}")
    first = [*first, *counts.first]
    bad, total = problems + counts.records, problems + counts.records + len(examples)
    if bad > config.max_bad_share * total:
        raise UserError(
            f"{bad:,} of {total:,} records of the {part} part are unusable; {first[0]}",
            where=f"data.{part}_texts",
            expected="usable ones, or a larger data.max_bad_share, with which they are left out and counted",
        )
    if not examples:
        raise DataError("holds no examples", where=f"data.{part}_texts", expected="at least one")
    found.bad += bad
    found.first_bad += first
    return examples


def _refuse_trained_files(files: Mapping[str, Sequence[InputFile]]) -> None:
    trained = {os.path.realpath(file.path) for file in files["train"]}
    for part in PARTS[1:]:
        both = next((file.path for file in files.get(part, []) if os.path.realpath(file.path) in trained), None)
        if both is not None:
            raise DataError(
                f"is {both}, which data.train_texts names, too",
                where=f"data.{part}_texts",
                expected="examples that are not trained on; or null: then data.split shares out data.train_texts",
            )
