"""The documents of a source as datatrove wants them; what cannot be read is a drop with a reason, never silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import DAMAGED, MALFORMED, Sample, StageCounts, utf8_size
from data_prep.cleaning.plan import InputPart, check_states
from data_prep.cleaning.record_fields import COMPARED, FieldCounter, compared_value, kept_fields, plain, value_of
from data_prep.config import SourceConfig
from data_prep.reading.documents import NO_TEXT, ReadCounts, Reason, RecordError
from data_prep.reading.files import file_state, forget_remote_states
from data_prep.reading.pages import IS_TEXT
from data_prep.reading.readers import read_batches
from data_prep.reading.records import RECORDS, too_deep
from data_prep.reading.work_unit import WorkUnit

_LOOK_FIRST = 100
_SHARE_AFTER = 1000


class SourceReadCounts(ReadCounts):
    """What a reader leaves out, counted in a stage's stage.

    Args:
        source: name of the source.
        config: the recipe.
        stage: of the stage `read`.
    """

    def __init__(self, source: str, config: CleanConfig, stage: StageCounts) -> None:
        super().__init__()
        self.source, self.config, self.stage = source, config, stage
        self.unit_name = ""
        self.documents = 0
        self.last: RecordError | None = None

    def leave_out(self, error: DataError, reason: Reason, config: SourceConfig) -> None:
        """Count a record or file.

        Raises:
            DataError: if the recipe allows no such record, or no further damaged file.
        """
        if reason == "damaged_files":
            self._count_damage(error)
            return
        assert isinstance(error, RecordError)
        if error.kind == NO_TEXT:
            self.drop("empty", "", error.place)
        elif reason == "too_long":
            self.drop("too_long", _text(error.raw), error.place)
        elif reason == "other_content":
            self.drop(error.kind, _text(error.raw), error.place)
        else:
            self.malformed += error.records
            self.last = error
            hint = _hint(error, self.source)
            self.drop(f"{MALFORMED}: {error.kind}", _text(error.raw), error.place, hint, error.records)
            if self.config.max_malformed_share == 0:
                raise DataError(
                    _of_source(error.problem, self.source),
                    where=f"sources.{self.source}, {error.where}",
                    expected=f"{error.expected}, with max_malformed_share = 0",
                    nearest=error.nearest,
                )

    def check_share(self, path: str) -> None:
        """See that not nearly all records are malformed, or more than the limit once enough were read.

        Raises:
            DataError: if they are; `path` is where.
        """
        records, share = self.documents + self.malformed, self.config.max_malformed_share
        all_bad = self.malformed == records >= _LOOK_FIRST and share < 1
        if all_bad or (records >= _SHARE_AFTER and self.malformed > share * records):
            raise self._too_many(path)

    def _too_many(self, path: str) -> DataError:
        assert self.last is not None
        records, hint = self.documents + self.malformed, _hint(self.last, self.source)
        kind = self.last.kind
        last = kind if kind.startswith(("has ", "is ")) else f"has {kind}"
        return DataError(
            f"{self.malformed} of {records} records are malformed; the last {last}" + (f", {hint}" if hint else ""),
            where=f"sources.{self.source}, {path}",
            expected=f"max_malformed_share = {self.config.max_malformed_share} or less",
        )

    def drop(self, reason: str, raw: str, place: int | str | None, detail: str = "", records: int = 1) -> None:
        """Count a record that becomes no document, or the records that were taken for one."""
        size = utf8_size(raw)
        tally = self.stage.tally(self.source)
        tally.documents_in += records
        tally.bytes_in += size
        shown = raw[: self.config.sample_chars].encode(errors="replace").decode()
        sample = Sample(self.unit_name if place is None else f"{self.unit_name}@{place}", self.source, shown, detail)
        self.stage.drop(reason, size, sample, self.config.samples_per_reason, records)

    def _count_damage(self, error: DataError) -> None:
        self.damaged_files += 1
        if self.damaged_files > self.config.max_damaged_files:
            limit = self.config.max_damaged_files
            raise DataError(
                f"breaks off or is damaged: {error.problem}",
                where=error.where,
                expected=f"a complete file; max_damaged_files = {limit} would have to be higher to go on",
            )
        sample = Sample(self.unit_name, self.source, f"{error.problem}; what came before was read")
        self.stage.drop(DAMAGED, 0, sample, self.config.samples_per_reason)
        # A file is not a document: the stage's balance of documents is kept.
        self.stage.tally(self.source).documents_in += 1


class SourceReader(PipelineStep):
    """Reads a part of the plan.

    Args:
        part: what is read.
        config: the recipe.
        stage: of the stage `read`.
    """

    type, name = "READER", "source"

    def __init__(self, part: InputPart, config: CleanConfig, stage: StageCounts) -> None:
        super().__init__()
        self.part, self.config, self.stage = part, config, stage
        self.source = config.sources[part.source]
        self.compares = "url_dedup" in config.stages
        self.fields = FieldCounter(config, part.source, stage)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of this task.

        Raises:
            DataError: if more is unreadable than the limits allow, or a file is not what it was when planned.
        """
        counts = SourceReadCounts(self.part.source, self.config, self.stage)
        for unit in self.part.tasks[rank]:
            counts.unit_name = self.part.names[unit.path]
            try:
                yield from self._documents(unit, counts)
            except DataError:
                self._check_unchanged(unit)
                raise
            self._check_unchanged(unit)

    def _check_unchanged(self, unit: WorkUnit) -> None:
        # Else a file system may tell what it has learned when the work was planned.
        forget_remote_states(unit.path)
        try:
            now = file_state(unit.path)
        except DataError as error:
            if error.problem != "there is no such file":
                raise
            now = None
        check_states(self.part, unit.path, now)

    def _documents(self, unit: WorkUnit, counts: SourceReadCounts) -> Iterator[Document]:
        for batch in read_batches(unit, self.part.reading, counts, RECORDS):
            assert batch.metadata is not None and batch.places is not None
            counts.documents += len(batch.texts)
            counts.check_share(unit.path)
            self.stage.tally(self.part.source).changed += counts.replaced
            counts.replaced = 0
            for text, record, place in zip(batch.texts, batch.metadata, batch.places):
                document = self._document(text, record, place, counts)
                if document is not None:
                    yield document
        counts.check_share(unit.path)

    def _document(self, text: str, record: dict[str, Any], place: int, counts: SourceReadCounts) -> Document | None:
        if not text.strip():
            counts.drop("empty", "", place)
            return None
        if len(text) > self.config.max_document_chars:
            counts.drop("too_long", text, place)
            return None
        id_field = "id" if self.part.pages else self.source.id_field
        found = value_of(record, id_field)
        if isinstance(found, bytes):
            found = found.decode(errors="backslashreplace")
        identity = str(found) if found is not None else f"{self.part.source}/{counts.unit_name}@{place}"
        try:
            fields = plain(kept_fields(record, self.source, self.part.pages, id_field))
            compared = compared_value(record, fields, self.config.url_dedup.field) if self.compares else None
        except OverflowError:
            counts.documents -= 1
            counts.leave_out(too_deep(f"{counts.unit_name}@{place}", place, text), "malformed", self.part.reading)
            return None
        self.fields.see(record)
        metadata = {"source": self.part.source, "fields": fields}
        if compared is not None:
            metadata[COMPARED] = compared
        if self.part.pages and record.get(IS_TEXT):
            metadata[IS_TEXT] = True
        return Document(text, identity, metadata=metadata)


def _hint(error: RecordError, source: str) -> str:
    """What is not equal in equal problems: the fields that there are, the line of a table, what the file looks like."""
    problem = error.problem
    hint = problem.partition(", ")[2] if problem.startswith("has no field") else ""
    if ", line " in str(error.where):
        hint = f"line {str(error.where).rpartition(', line ')[2]}"
    if error.nearest and hint:
        hint += f"; did you mean {error.nearest}?"
    looks = _of_source(problem, source).partition("; the file ")[2]
    return "; ".join(filter(None, (hint, looks and f"the file {looks}")))


def _of_source(problem: str, source: str) -> str:
    # What a guess says to set is a setting of the source here.
    said, found, guess = problem.partition("; the file ")
    return said + found + guess.replace(" encoding=", f" sources.{source}.encoding=")


def _text(raw: str | bytes) -> str:
    return raw.decode(errors="replace").rstrip("\n") if isinstance(raw, bytes) else raw
