"""Files of examples -> records, by the readers of data preparation. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, nearest
from finetune.tasks.examples_config import ExamplesData

if TYPE_CHECKING:
    from data_prep.config import SourceConfig
    from data_prep.reading.documents import Document, ReadCounts
    from data_prep.reading.inputs import InputFile

_OWN_WORDS = (("quoting=", "data.quoting="), (", or damaged_files=skip", ""))
"""What the readers of data preparation advise -> what helps here: they have other options and settings."""


@dataclass(frozen=True)
class RecordForm:
    """What a record of a task looks like to the readers.

    Attributes:
        text_field: the field without which a record is none.
        kinds: of files that the task reads.
        expected: the same in words, for messages.
        key: the setting that says `text_field`.
        settings: what else the readers are told, as `SourceConfig` calls it.
        whole_file: makes documents of a file that is one record as a whole; None for a file that is not, which the
            readers then read.
    """

    text_field: str
    kinds: frozenset[str]
    expected: str
    key: str = "data.text_field"
    settings: Mapping[str, Any] | None = None
    whole_file: Callable[[InputFile, SourceConfig], Iterable[Document] | None] | None = None


class ExampleReader:
    """Reads the files of a task's examples.

    Args:
        data: which files; how many records may be unusable.
        form: what a record looks like.
    """

    def __init__(self, data: ExamplesData, form: RecordForm) -> None:
        self.data, self.form = data, form

    def find(self, paths: Sequence[str]) -> list[InputFile]:
        """The files that some patterns mean.

        Raises:
            DataError: there are none, or one is of a kind that the task does not read.
        """
        from data_prep.reading.inputs import find_files

        files = find_files(self.source(paths))
        for file in files:
            if file.kind not in self.form.kinds:
                raise DataError(
                    f"is {'text without labels' if file.kind == 'text' else file.kind}",
                    where=file.path,
                    expected=self.form.expected,
                )
        return files

    def records(self, files: Sequence[InputFile], part: str) -> Records:
        """The records of some files, in their order.

        Args:
            files: from `find`.
            part: what they are for, such as `train`.
        """
        from data_prep.reading.documents import ReadCounts

        return Records(self, files, part, ReadCounts())

    def source(self, paths: Sequence[str]) -> SourceConfig:
        """What the readers are told."""
        from data_prep.config import SourceConfig

        told = {"text_field": self.form.text_field, "encoding": self.data.encoding, **(self.form.settings or {})}
        malformed = "skip" if self.data.max_malformed_share else "stop"
        return SourceConfig.model_validate({"input": list(paths), "malformed": malformed, **told})


@dataclass
class Records:
    """The records of a part's files, once each; what cannot be used is counted.

    Attributes:
        reader: how they are read.
        files: in order.
        part: what they are for.
        counts: what was left out; complete after the iteration.
    """

    reader: ExampleReader
    files: Sequence[InputFile]
    part: str
    counts: ReadCounts
    _read: int = 0
    _refused: int = 0

    @property
    def where(self) -> str:
        """The setting that named the files."""
        return f"data.{self.part}_texts"

    def __iter__(self) -> Iterator[tuple[Document, str]]:
        """Each record with its file.

        Raises:
            DataError: unreadable files, or an unusable record where none may be.
        """
        with _own_words(self.reader.form.key):
            for file in self.files:
                for document in self._documents(file):
                    self._read += 1
                    yield document, file.path

    def _documents(self, file: InputFile) -> Iterator[Document]:
        from data_prep.reading.inputs import work_units
        from data_prep.reading.readers import read_documents

        source = self.reader.source([file.path])
        form = self.reader.form
        whole = form.whole_file(file, source) if form.whole_file is not None else None
        if whole is not None:
            yield from whole
            return
        for unit in work_units([file], source):
            yield from read_documents(unit, source, self.counts)

    def check(self) -> None:
        """Refuse too many records that were left out; called after all were read.

        Raises:
            DataError: names the first of them.
        """
        allowed, left_out = self.reader.data.max_malformed_share, self.counts.records
        # Those that `leave_out` counted had been read; those that the reader left out had not.
        if left_out > allowed * (self._read + left_out - self._refused):
            raise DataError(
                f"{left_out:,} records cannot be used, the first: {self.counts.first[0]}",
                where=self.where,
                expected=f"at most {allowed:.2%} of them, data.max_malformed_share",
            )

    def leave_out(self, error: DataError) -> None:
        """Count a record that was read and cannot be used.

        Raises:
            DataError: `error`, where none may be.
        """
        from data_prep.reading.documents import RecordError

        self._refused += 1
        found = RecordError(error.problem, where=error.where, expected=error.expected, nearest=error.nearest)
        self.counts.leave_out(found, "malformed", self.reader.source(["unused"]))


def identity(document: Document, field: str) -> str:
    """What a record is called: by its field, or by file and position."""
    name = document.metadata.get(field)
    return str(name) if name is not None else document.id


def field_value(document: Document, field: str, key: str, where: str) -> Any:
    """The value of a field.

    Raises:
        DataError: there is no such field; names the nearest, and the setting `key` that named it.
    """
    if field in document.metadata:
        return document.metadata[field]
    keys = [str(name) for name in document.metadata]
    raise DataError(
        f"has no field {field!r}, only {', '.join(keys[:12])}",
        where=where,
        expected=f"a field that {key} names",
        nearest=nearest(field, keys),
    )


def group_of(document: Document, split_by: str | None, where: str) -> str:
    """What keeps examples on one side of a split: a field's value, or the text."""
    if split_by is None:
        return document.text
    value = field_value(document, split_by, "data.split_by", where)
    if value is None:
        raise DataError(
            f"its field {split_by!r} is empty", where=where, expected="a value that data.split_by groups by"
        )
    return str(value)


def refuse_trained_files(files: Mapping[str, Iterable[InputFile]]) -> None:
    """Refuse to measure on a file that is trained on."""
    trained = {os.path.realpath(file.path) for file in files["train"]}
    for part in ("validation", "test"):
        both = next((file.path for file in files.get(part, []) if os.path.realpath(file.path) in trained), None)
        if both is not None:
            raise DataError(
                f"is {both}, which data.train_texts names, too",
                where=f"data.{part}_texts",
                expected="texts that are not trained on; or null: then data.split shares out data.train_texts",
            )


@contextmanager
def _own_words(key: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        expected = error.expected or ""
        for theirs, ours in (("--text-field", key), *_OWN_WORDS):
            expected = expected.replace(theirs, ours)
        raise DataError(error.problem, where=error.where, expected=expected or None, nearest=error.nearest) from None
