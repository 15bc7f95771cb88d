"""CSV and TSV files -> documents. A quoted field may hold line breaks, so such a file is one unit of work."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.documents import Batch, DamagedFileError, ReadCounts
from data_prep.files import open_stream, reading
from data_prep.readers import metadata_of, text_of, too_long
from data_prep.work_unit import Kind, WorkUnit

_BATCH_CHARS = 1 << 20


def check_header(path: str, kind: Kind, config: SourceConfig) -> None:
    """Look whether the first row names the text columns.

    Raises:
        DataError: if it does not; names the nearest.
    """
    with _rows(path, kind, config) as rows:
        _header(path, rows, config)


def read_separated(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The documents of a file, in order; a row of another length than the header is malformed."""
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    chars = 0
    with _rows(unit.path, unit.kind, config) as rows:
        header = _header(unit.path, rows, config)
        while True:
            begin = rows.line_num + 1
            try:
                with reading(unit.path):
                    row = next(rows, None)
            except csv.Error as error:
                # The rest of the file is inside of this field: nothing after it can be trusted.
                yield _batch(texts, metadata, fields)
                unclosed = f"a quoted field that begins here does not end: {error}"
                raise DamagedFileError(unclosed, where=f"{unit.path}, line {begin}") from None
            except DamagedFileError:
                yield _batch(texts, metadata, fields)
                raise
            if row is None:
                yield _batch(texts, metadata, fields)
                return
            if not row:
                continue
            if sum(map(len, row)) > config.max_document_bytes:
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
                metadata.append(metadata_of(record, config, fields, f"{unit.name}@{begin}"))
            chars += len(texts[-1])
            if chars >= _BATCH_CHARS:
                yield _batch(texts, metadata, fields)
                texts, metadata, chars = [], [], 0


def _batch(texts: list[str], metadata: list[dict[str, Any]], fields: Sequence[str] | None) -> Batch:
    return Batch(texts, None if fields is None else metadata)


def _problem(row: list[str], header: list[str]) -> str | None:
    if len(row) != len(header):
        return f"has {len(row)} fields"
    for value in row:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"is not UTF-8: byte 0x{ord(value[error.start]) - 0xDC00:02x}"
    return None


@contextmanager
def _rows(path: str, kind: Kind, config: SourceConfig) -> Iterator[Any]:
    csv.field_size_limit(config.max_document_bytes)
    with open_stream(path) as stream:
        # Bytes that are not UTF-8 become lone surrogates, which no UTF-8 text holds: they are found row by row.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield csv.reader(text, delimiter="\t" if kind == "tsv" else ",")
        finally:
            text.detach()


def _header(path: str, rows: Any, config: SourceConfig) -> list[str]:
    try:
        with reading(path):
            header = next(rows, None) or []
    except csv.Error as error:
        raise DataError(
            f"its first row cannot be read: {error}", where=path, expected="a row of column names"
        ) from None
    for column in config.text_field:
        if column not in header:
            raise DataError(
                f"has no column {column!r}, only {', '.join(header[:12]) or 'nothing'}",
                where=path,
                expected="a first row with the name of the text column (--text-field)",
                nearest=nearest(column, header),
            )
    return header
