"""CSV and TSV files -> documents. A quoted field may hold line breaks, so such a file is one unit of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.reading.documents import Batch, DamagedFileError, ReadCounts
from data_prep.reading.files import open_stream, reading
from data_prep.reading.records import is_too_long, metadata_of, text_of, too_long
from data_prep.reading.table_rows import BrokenRowError, check_distinct, table_rows
from data_prep.reading.work_unit import Kind, WorkUnit

_BATCH_CHARS = 1 << 20


def check_header(path: str, kind: Kind, config: SourceConfig) -> list[str]:
    """The names of the columns, among which the text columns have to be.

    Raises:
        DataError: if they are not; names the nearest.
    """
    with open_stream(path) as stream:
        return _header(path, _rows(stream, kind, config), config)


def read_separated(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The documents of a file, in order; a row of another length than the header is malformed."""
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    chars = 0
    with open_stream(unit.path) as stream:
        rows = _rows(stream, unit.kind, config)
        header = _header(unit.path, rows, config)
        while True:
            try:
                begin, row = _next_row(unit.path, rows)
            except DamagedFileError:
                yield _batch(texts, metadata, fields)
                raise
            if row is None:
                yield _batch(texts, metadata, fields)
                return
            if is_too_long(row, config):
                too_long(config, counts, f"{unit.path}, line {begin}")
                continue
            problem = _problem(row, header)
            if problem is not None:
                where, expected = f"{unit.path}, line {begin}", f"{len(header)} fields of UTF-8"
                counts.leave_out(DataError(problem, where=where, expected=expected), "malformed", config)
                continue
            record = dict(zip(header, row))
            texts.append(text_of(record, config))
            if fields is not None:
                metadata.append(metadata_of(record, fields, f"{unit.name}@{begin}"))
            chars += len(texts[-1])
            if chars >= _BATCH_CHARS:
                yield _batch(texts, metadata, fields)
                texts, metadata, chars = [], [], 0


def _batch(texts: list[str], metadata: list[dict[str, Any]], fields: Sequence[str] | None) -> Batch:
    return Batch(texts, None if fields is None else metadata)


def _problem(row: list[str], header: list[str]) -> str | None:
    if not row:
        return "has text after a closing quote"
    if len(row) != len(header):
        return f"has {len(row)} fields"
    for value in row:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"is not UTF-8: byte 0x{ord(value[error.start]) - 0xDC00:02x}"
    return None


def _rows(stream: BinaryIO, kind: Kind, config: SourceConfig) -> Iterator[tuple[int, list[str]]]:
    return table_rows(stream, "\t" if kind == "tsv" else ",", config.max_document_bytes)


def _next_row(path: str, rows: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str] | None]:
    """The next row and the line that it begins in; None after the last."""
    try:
        with reading(path):
            return next(rows, (0, None))
    except BrokenRowError as error:
        raise DamagedFileError(
            error.problem, where=f"{path}, line {error.line}", expected="a closing quote, or damaged_files=skip"
        ) from None


def _header(path: str, rows: Iterator[tuple[int, list[str]]], config: SourceConfig) -> list[str]:
    header = _next_row(path, rows)[1] or []
    check_distinct(path, header)
    for column in config.text_field:
        if column not in header:
            raise DataError(
                f"has no column {column!r}, only {', '.join(header[:12]) or 'nothing'}",
                where=path,
                expected="a first row with the name of the text column (--text-field)",
                nearest=nearest(column, header),
            )
    return header
