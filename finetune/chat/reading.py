"""Conversations out of files, through the readers of data preparation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.chat.config import ChatData
from finetune.chat.formats import FORMATS, BadConversation, Conversation, FormatName, conversation_of

if TYPE_CHECKING:
    from data_prep.reading.inputs import InputFile

_SHOWN = 5


@dataclass
class BadRecords:
    """Counts records that are no conversation, and ends the work where there are too many.

    Args:
        max_share: of all records.

    Attributes:
        seen: records, good and bad.
        count: bad ones.
        first: what is wrong with the first of them.
    """

    max_share: float
    seen: int = 0
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str, problem: str) -> None:
        """Count a bad one.

        Raises:
            DataError: none is allowed.
        """
        if not self.max_share:
            raise DataError(
                problem, where=place, expected="a conversation; or data.max_bad_share, up to which records are left out"
            )
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"{place}: {problem}")

    def check(self, where: str) -> None:
        """Refuse too many.

        Raises:
            DataError: with the first of them.
        """
        if self.count > self.max_share * self.seen:
            shown = "".join(f"\n- {line}" for line in self.first)
            raise DataError(
                f"{self.count:,} of {self.seen:,} records are left out:{shown}",
                where=where,
                expected=f"at most data.max_bad_share = {self.max_share:g} of them",
            )


@dataclass(frozen=True)
class ChatFiles:
    """Files of conversations.

    Attributes:
        files: in order.
        format: how their records hold conversations.
        source: the settings with which they are read.
    """

    files: list[InputFile]
    format: FormatName
    source: Any


def find_chat_files(paths: Sequence[str], data: ChatData) -> ChatFiles:
    """The files that `paths` mean.

    Raises:
        DataError: there are none, or their first record is of no known format.
    """
    names = list(FORMATS) if data.format == "auto" else [data.format]
    problems: list[str] = []
    where: str | None = None
    for name in names:
        source = _source(paths, data, name)
        found = _find(source)
        if len(names) == 1:
            return ChatFiles(found, name, source)
        where = found[0].path
        problem = _unlike(found[0], source)
        if problem is None:
            return ChatFiles(found, name, source)
        problems.append(problem)
    telling = ", ".join(f"{data.columns.get(each.told_by, each.told_by)} ({name})" for name, each in FORMATS.items())
    raise DataError(
        f"is of no known format of conversations: {problems[0]}",
        where=where,
        expected=f"records with one of {telling}; data.columns says what they are called",
    )


def _source(paths: Sequence[str], data: ChatData, name: FormatName) -> Any:
    from data_prep.config import SourceConfig

    column = FORMATS[name].told_by
    malformed = "skip" if data.max_bad_share else "stop"
    told = {"text_field": data.columns.get(column, column), "malformed": malformed}
    return SourceConfig.model_validate({"input": list(paths), **told})


def _find(source: Any) -> list[InputFile]:
    from data_prep.reading.inputs import find_files

    files = find_files(source)
    for file in files:
        if file.kind in ("text", "html", "warc"):
            raise DataError(
                "is text without fields",
                where=file.path,
                expected="JSON (.jsonl, .json), CSV, TSV (.csv, .tsv; also .gz or .zst), Parquet or a saved dataset",
            )
    return files


def _unlike(file: InputFile, source: Any) -> str | None:
    """Why no record at the beginning of a file has the column that tells a format; None: one has."""
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import work_units
    from data_prep.reading.readers import read_batches
    from data_prep.reading.records import RECORDS

    counts, looking = ReadCounts(), source.model_copy(update={"malformed": "skip"})
    try:
        batch = next(read_batches(work_units([file], looking)[0], looking, counts, RECORDS), None)
    except DataError as error:
        return error.problem
    if batch is not None and batch.texts:
        return None
    return counts.first[0] if counts.first else "it holds no record"


def _records(files: list[InputFile], source: Any, bad: BadRecords | None = None) -> Iterator[tuple[str, Any]]:
    """Each record with its place."""
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import work_units
    from data_prep.reading.readers import read_batches
    from data_prep.reading.records import RECORDS

    for unit in work_units(files, source):
        counts = ReadCounts()
        for batch in read_batches(unit, source, counts, RECORDS):
            assert batch.metadata is not None and batch.places is not None
            for place, record in zip(batch.places, batch.metadata):
                yield f"{unit.path}, record at {place}", record
        if bad is not None and counts.records:
            bad.seen += counts.records
            bad.count += counts.records
            bad.first += counts.first[: max(0, _SHOWN - len(bad.first))]


def read_conversations(found: ChatFiles, data: ChatData, bad: BadRecords) -> Iterator[Conversation]:
    """The conversations of some files, in order.

    Args:
        found: the files.
        data: what their columns are called.
        bad: counts the records that are none.

    Raises:
        DataError: a file cannot be read, or a record is none and none is allowed.
    """
    for place, record in _records(found.files, found.source, bad):
        bad.seen += 1
        try:
            yield conversation_of(record, found.format, data.columns, place)
        except BadConversation as problem:
            bad.add(place, str(problem))
