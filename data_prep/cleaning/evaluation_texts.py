"""The texts of evaluation files; what cannot be read of them is an error that names file and place, never left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from configs.errors import DataError, nearest
from data_prep.cleaning.stage_config import DecontaminationSettings
from data_prep.config import SourceConfig
from data_prep.reading.columnar import column_names, columnar_records
from data_prep.reading.encodings import decoding_problem
from data_prep.reading.files import open_stream, said_content
from data_prep.reading.inputs import InputFile, find_files
from data_prep.reading.json_layout import is_json_document
from data_prep.reading.kinds import COLUMNAR
from data_prep.reading.lines import line_blocks, line_number, lines_of
from data_prep.reading.records import field_names, field_of, parse_record, say_replaced
from data_prep.reading.separated import SeenRows, rows_of
from data_prep.reading.table_rows import BrokenRow, BrokenRowError, check_distinct
from data_prep.reading.work_unit import Kind, WorkUnit


def evaluation_files(settings: DecontaminationSettings) -> list[InputFile]:
    """The evaluation files.

    Raises:
        DataError: if a pattern means no file, or one that is not read.
    """
    try:
        return find_files(_reading(settings, settings.files))
    except DataError as error:
        raise DataError(
            error.problem,
            where=f"decontaminate.files, {error.where}",
            expected=error.expected or "files with evaluation texts",
            nearest=error.nearest,
        ) from None


def texts_of(file: InputFile, settings: DecontaminationSettings) -> Iterator[str]:
    """The texts of an evaluation file: of a record those of `fields`, or all that there are.

    Raises:
        DataError: if the file cannot be read, or a record has no such field.
    """
    config = _reading(settings, [file.path])
    try:
        if file.kind == "text":
            with open_stream(file.path, config) as stream:
                data = stream.read()
            _check_text(data, file, config)
            yield data.decode("utf-8-sig")
            return
        for at, record in _records(file, config):
            for value in [record] if settings.fields is None else _values(record, settings.fields, file, at, config):
                yield from _strings(value)
    except DataError as error:
        if str(error.where).startswith("decontaminate."):
            raise
        raise DataError(f"cannot be read: {error.problem}", where=f"decontaminate.files, {error.where}") from None
    except (EOFError, OSError, ValueError, BrokenRowError) as error:
        raise DataError(f"cannot be read: {error}", where=f"decontaminate.files, {file.path}") from None


def _reading(settings: DecontaminationSettings, files: list[str]) -> SourceConfig:
    given = {"input": files, "format": settings.format, "encoding": settings.encoding}
    return SourceConfig.model_validate(given)


def _values(record: Any, fields: list[str], file: InputFile, at: int, config: SourceConfig) -> Iterator[Any]:
    """The values of the fields; `at` is where the record begins, as of `_records`."""
    for name in fields:
        if not isinstance(record, dict):
            raise DataError(
                f"holds a JSON {type(record).__name__}",
                where=f"decontaminate.fields, {_place(file, at, config)}",
                expected=f"an object with the fields {', '.join(fields)}",
            )
        try:
            value = field_of(record, name)
        except (KeyError, TypeError):
            names = field_names(record)
            raise DataError(
                f"has no field {name!r}, only {', '.join(names)}",
                where=f"decontaminate.fields, {_place(file, at, config)}",
                nearest=nearest(name, names),
            ) from None
        yield value


def _place(file: InputFile, at: int, config: SourceConfig) -> str:
    if file.kind in COLUMNAR:
        return f"{file.path}, row {at}"
    return f"{file.path}, line {line_number(file.path, at, config) if file.kind == 'jsonl' else at}"


def _records(file: InputFile, config: SourceConfig) -> Iterator[tuple[int, Any]]:
    """Where each record begins, a byte of JSON and the line or row of a table, and its value."""
    if file.kind in COLUMNAR:
        check_distinct(file.path, column_names(file.path, file.kind))
        yield from enumerate(columnar_records(file.path, file.kind), 1)
    elif file.kind in ("csv", "tsv"):
        yield from _rows(file, config)
    else:
        yield from _json_records(file, config)


def _rows(file: InputFile, config: SourceConfig) -> Iterator[tuple[int, dict[str, str]]]:
    with open_stream(file.path, config) as stream:
        rows = rows_of(stream, file.kind, config)
        header: list[str] = []
        seen = SeenRows()
        for line, row in rows:
            if isinstance(row, BrokenRow):
                raise ValueError(f"line {line}: {row.problem}")
            for value in row:
                _check_text(value.encode(errors="surrogateescape"), file, config, line)
            if not header:
                header = row
                check_distinct(file.path, header)
            elif len(row) != len(header):
                raise ValueError(f"line {line}: {len(row)} fields for {len(header)} columns")
            else:
                seen.rows += 1
                seen.note(row)
                yield line, dict(zip(header, row))
        seen.tell(f"decontaminate.files, {file.path}")


def _json_records(file: InputFile, config: SourceConfig) -> Iterator[tuple[int, Any]]:
    kind: Kind = "json" if is_json_document(file.path, config) else "jsonl"
    unit = WorkUnit(file.path, kind, 0, None, file.state.size_bytes)

    def refuse(at: int) -> None:
        raise ValueError(f"the record at byte {at} is longer than {config.max_document_bytes} bytes")

    mended = 0
    for block in line_blocks(unit, config.max_document_bytes, refuse, config):
        for at, record in lines_of(block):
            if not record.strip():
                continue
            try:
                value, replaced = parse_record(record)
            except ValueError as error:
                _check_text(record, file, config)
                raise ValueError(f"line {line_number(file.path, at, config)}: {error}") from None
            mended += replaced
            yield at, value
    if mended:
        say_replaced(mended, f"decontaminate.files, {file.path}")


def _check_text(data: bytes, file: InputFile, config: SourceConfig, line: int | None = None) -> None:
    """See that bytes are text, and say how the file would be.

    Raises:
        ValueError: if they are not.
    """
    problem = decoding_problem(data, config.encoding)
    if problem is None:
        return
    if line is not None:
        problem = f"line {line} {problem}".replace("of the line", "of its field")
    shown = said_content(file.path, config.encoding)
    if shown is not None:
        problem += f"; the file {shown}".replace("encoding=", "decontaminate.encoding=")
    raise ValueError(problem)


def _strings(value: Any) -> Iterator[str]:
    """All texts within a value, however deep they are nested."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            left.extend(reversed(item.values()))
        elif isinstance(item, list | tuple):
            left.extend(reversed(item))
