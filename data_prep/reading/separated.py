"""CSV and TSV files -> documents. A quoted field may hold line breaks, so such a file is one unit of work."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from configs.errors import DataError, nearest, printable
from data_prep.config import SourceConfig
from data_prep.reading.documents import Batch, DamagedFileError, ReadCounts, RecordError
from data_prep.reading.encodings import decoding_problem, encoding_shown
from data_prep.reading.files import open_stream, reading, said_content
from data_prep.reading.records import is_too_long, metadata_of, text_of, too_long
from data_prep.reading.table_rows import BrokenRow, BrokenRowError, DoubtfulRow, check_distinct, table_rows
from data_prep.reading.work_unit import Kind, WorkUnit

_BATCH_CHARS = 1 << 20
_ROWS_LOOKED_AT, _HEADER_BYTES = 100, 4096
_DELIMITERS = ("\t", ";", "|", ",")
# Fields of several lines in more of the rows are what the table is made of, unless the lines are like its rows.
_DOUBTFUL_SHARE = 0.1


def check_header(path: str, kind: Kind, config: SourceConfig) -> list[str]:
    """The names of the columns, among which the text columns have to be.

    Raises:
        DataError: if they are not; names the nearest.
    """
    with open_stream(path, config) as stream:
        rows = rows_of(stream, kind, config)
        header = _header(path, rows, kind, config)
        if kind == "tsv" and config.quoting is None:
            _say_if_quoted(path, rows)
        return header


def read_separated(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The documents of a file, in order; a row of another length than the header is malformed."""
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    places: list[int] = []
    chars, seen = 0, SeenRows()
    with open_stream(unit.path, config) as stream:
        rows = rows_of(stream, unit.kind, config)
        header = _header(unit.path, rows, unit.kind, config)
        while True:
            try:
                begin, row = _next_row(unit.path, rows)
            except DamagedFileError:
                yield _batch(texts, metadata, places, fields)
                seen.tell(unit.path, "; quoting=none takes quotes for letters")
                raise
            if row is None:
                yield _batch(texts, metadata, places, fields)
                seen.tell(unit.path, "; quoting=none takes quotes for letters")
                return
            seen.rows += 1
            is_long = is_too_long(row, config)
            problem = None if is_long else _problem(row, header, unit.path, config)
            if problem is not None:
                error = _row_error(problem, row, begin, len(header), unit, config)
                counts.leave_out(error, "malformed", config)
                continue
            seen.note(row)
            if is_long:
                too_long(config, counts, unit.path, "line", begin)
                continue
            record = dict(zip(header, row))
            texts.append(text_of(record, config))
            if fields is not None:
                metadata.append(metadata_of(record, fields, f"{unit.name}@{begin}"))
                places.append(begin)
            chars += len(texts[-1])
            if chars >= _BATCH_CHARS:
                yield _batch(texts, metadata, places, fields)
                texts, metadata, places, chars = [], [], [], 0


def _row_error(
    problem: str, row: list[str], begin: int, columns: int, unit: WorkUnit, config: SourceConfig
) -> RecordError:
    where, expected = f"{unit.path}, line {begin}", f"{columns} fields of UTF-8"
    if unit.kind == "tsv" and config.quoting is None and any('"' in value for value in row):
        expected += ", or quoting=double where quotes enclose fields"
    kind = f"{len(row)} fields for {columns} columns"
    if isinstance(row, BrokenRow):
        kind = row.kind
    elif len(row) == columns:
        kind = f"bytes that are not {encoding_shown(config.encoding)}"
    raw = delimiter_of(unit.kind, config).join(row)
    records = 1
    # One that is likely to be text is one record, as it would be without the byte that is none.
    if isinstance(row, BrokenRow) or (isinstance(row, DoubtfulRow) and (row.likely or len(row) != columns)):
        records = row.lines
    return RecordError(problem, where=where, expected=expected, kind=kind, raw=raw, place=begin, records=records)


def _batch(texts: list[str], metadata: list[dict[str, Any]], places: list[int], fields: Sequence[str] | None) -> Batch:
    return Batch(texts) if fields is None else Batch(texts, metadata, places)


def _problem(row: list[str], header: list[str], path: str, config: SourceConfig) -> str | None:
    if isinstance(row, BrokenRow):
        return row.problem
    if len(row) != len(header):
        return f"has {len(row)} fields" + (f" in {row.lines:,} lines" if isinstance(row, DoubtfulRow) else "")
    for value in row:
        problem = None if value.isascii() else _no_text(value, config)
        shown = said_content(path, config.encoding) if problem is not None or "\0" in value else None
        if problem is not None or shown is not None:
            problem = problem or "holds zero bytes"
            return problem if shown is None else f"{problem}; the file {shown}"
    return None


def _no_text(value: str, config: SourceConfig) -> str | None:
    """What keeps a field from being text; None: nothing."""
    try:
        value.encode()
    except UnicodeEncodeError:
        problem = decoding_problem(value.encode(errors="surrogateescape"), config.encoding) or "is not UTF-8"
        return problem.replace("of the line", "of its field")
    return None


def rows_of(stream: BinaryIO, kind: Kind, config: SourceConfig) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, as `table_rows` gives them."""
    quoting = config.quoting == "double" if config.quoting else None if kind == "tsv" else True
    return table_rows(stream, delimiter_of(kind, config), config.max_document_bytes, quoting, len(config.header))


def delimiter_of(kind: Kind, config: SourceConfig) -> str:
    """What lies between two fields of a table."""
    return config.delimiter or ("\t" if kind == "tsv" else ",")


def _say_if_quoted(path: str, rows: Iterator[tuple[int, list[str]]]) -> None:
    """Say that the quotes in a table look as if a program had written them around fields, which are read as text."""
    try:
        looked_at = [row for _, row in itertools.islice(rows, _ROWS_LOOKED_AT)]
    except csv.Error:
        return
    enclosed = [value[1:-1] for row in looked_at for value in row if len(value) > 1 and value[0] == value[-1] == '"']
    if any('""' in value and '"' not in value.replace('""', "") for value in enclosed):
        print(
            f"{printable(path)}: its quotes are read as text; quoting=double takes them as marks",
            file=sys.stderr,
            flush=True,
        )


class SeenRows:
    """The rows of a table that were read, and the lines of those that hold lines which may be rows.

    Attributes:
        rows: how many rows there were.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._likely: list[int] = []
        self._possible: list[int] = []

    def note(self, row: list[str]) -> None:
        """Note a row that is taken."""
        if isinstance(row, DoubtfulRow):
            (self._likely if row.likely else self._possible).append(row.lines)

    def tell(self, path: str, hint: str = "") -> None:
        """Say that rows hold lines that are likely to be rows, or that may be and are few; and what reads them."""
        lines = self._likely + self._possible
        if len(lines) > max(1, _DOUBTFUL_SHARE * self.rows):
            lines = self._likely
        if lines:
            print(
                f"{printable(path)}: {len(lines):,} of {self.rows:,} rows hold {sum(lines):,} lines, which may be rows "
                f"behind a quote that is not closed{hint}",
                file=sys.stderr,
                flush=True,
            )


def _next_row(path: str, rows: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str] | None]:
    """The next row and the line that it begins in; None after the last."""
    try:
        with reading(path):
            return next(rows, (0, None))
    except BrokenRowError as error:
        raise DamagedFileError(
            error.problem, where=f"{path}, line {error.line}", expected="a closing quote, or damaged_files=skip"
        ) from None


def _header(path: str, rows: Iterator[tuple[int, list[str]]], kind: Kind, config: SourceConfig) -> list[str]:
    header = config.header or _next_row(path, rows)[1] or []
    check_distinct(path, header)
    for column in config.text_field:
        if column not in header:
            readable = "".join(header).isascii() and "\0" not in "".join(header)
            shown = None if readable else said_content(path, config.encoding)
            if shown is not None:
                raise DataError(
                    f"is no table of {config.encoding}: {shown}", where=path, expected=f"a table in {config.encoding}"
                )
            found = ", ".join(header[:12]).encode(errors="backslashreplace").decode() or "nothing"
            between = _other_delimiter(path, header, kind, config)
            raise DataError(
                f"has no column {column!r}, only {found}",
                where=path,
                expected="a first row with the name of the text column (--text-field), or `header` with the names",
                nearest=nearest(column, header) if between is None else between,
            )
    return header


def _other_delimiter(path: str, header: list[str], kind: Kind, config: SourceConfig) -> str | None:
    """The setting of what else lies between the names in the first row, if that is what divides them; None: nothing."""
    if config.header:
        return None
    delimiter = delimiter_of(kind, config)
    line = delimiter.join(header)
    if not header:
        # What is no row with these delimiters may be one with others.
        with open_stream(path, config) as stream:
            line = stream.read(_HEADER_BYTES).partition(b"\n")[0].decode(errors="replace")
    for other in _DELIMITERS:
        names = [name.strip().strip('"') for name in line.split(other)]
        has_texts = all(column in names for column in config.text_field)
        if other != delimiter and len(names) > 1 and (has_texts or len(header) <= 1):
            # As it is written on a command line.
            return "'delimiter=\"\\t\"'" if other == "\t" else f"delimiter='{other}'"
    return None
