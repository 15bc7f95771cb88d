"""Parquet and Arrow files (also of saved Hugging Face datasets): units of work and documents.

They are read with pyarrow directly: importing `datasets` in every worker takes longer than a unit of work.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig, TokenizeConfig
from data_prep.reading.archives import split_member
from data_prep.reading.decompression import MAGIC_BYTES, content_shown
from data_prep.reading.documents import NO_TEXT, Batch, DamagedFileError, ReadCounts, RecordError
from data_prep.reading.files import is_local_file, is_url, open_raw
from data_prep.reading.records import ALL_FIELDS, ID, RECORDS, is_too_long, metadata_of, text_of, too_long
from data_prep.reading.work_unit import Kind, WorkUnit

_ROWS_PER_BATCH = 256
_ARROW_FILE_MAGIC = b"ARROW1"


def columnar_units(path: str, kind: Kind, unit_bytes: int, config: SourceConfig) -> list[WorkUnit]:
    """Cut a file into units at the borders of its row groups (Parquet) or record batches (Arrow).

    Raises:
        DataError: if the file has no text column.
        DamagedFileError: if it cannot be read.
    """
    with _naming(path):
        if kind == "parquet":
            with _parquet(path) as file:
                _check_columns(path, file.schema_arrow, config)
                groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
                sizes = [max(1, group.total_byte_size) for group in groups]
        else:
            with _arrow(path) as (schema, batches):
                _check_columns(path, schema, config)
                sizes = [max(1, batch.nbytes) for batch in batches]
    units, start, pending = [], 0, 0
    for number, size in enumerate(sizes):
        pending += size
        if pending >= unit_bytes or number == len(sizes) - 1:
            units.append(WorkUnit(path, kind, start, number + 1, pending))
            start, pending = number + 1, 0
    return units


def column_names(path: str, kind: Kind) -> list[str]:
    """The names of the columns of a file.

    Raises:
        DamagedFileError: if it cannot be read.
    """
    with _naming(path):
        if kind == "parquet":
            with _parquet(path) as file:
                return list(file.schema_arrow.names)
        with _arrow(path) as (schema, _):
            return list(schema.names)


def columnar_records(path: str, kind: Kind) -> Iterator[dict[str, Any]]:
    """All rows of a file as they are.

    Raises:
        DamagedFileError: if it cannot be read.
    """
    for table, _ in _tables(WorkUnit(path, kind, 0, None, 0), None):
        yield from table.to_pylist()


def read_columnar(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The documents of a unit; rows whose text is null are malformed.

    Raises:
        DataError: where the settings say that a row ends the work.
        DamagedFileError: if the file cannot be read.
    """
    columns = (
        None if fields in (ALL_FIELDS, RECORDS) else [*config.text_field, *(fields or ()), *((ID,) if fields else ())]
    )
    if fields is not None and fields is not RECORDS:
        check_columns_differ(unit.path, column_names(unit.path, unit.kind), None if fields is ALL_FIELDS else columns)
    plain = fields is None and len(config.text_field) == 1 and "." not in config.text_field[0]
    for table, row in _tables(unit, columns):
        if plain and (texts := _plain_texts(table, config)) is not None:
            yield Batch(texts)
            continue
        batch = Batch([]) if fields is None else Batch([], [], [])
        for number in range(row + 1, row + 1 + table.num_rows):
            where = f"{unit.path}, row {number}"
            try:
                record = table.slice(number - row - 1, 1).to_pylist()[0]
                text = text_of(record, config)
                kept = None if fields is None else metadata_of(record, fields, f"{unit.name}@{number - 1}")
            except (UnicodeDecodeError, OverflowError, TypeError, KeyError, IndexError) as problem:
                counts.leave_out(_row_error(problem, where, number - 1, config), "malformed", config)
                continue
            if is_too_long([text], config):
                too_long(config, counts, unit.path, "row", number)
                continue
            batch.texts.append(text)
            if batch.metadata is not None and batch.places is not None and kept is not None:
                batch.metadata.append(kept)
                batch.places.append(number - 1)
        yield batch


def _row_error(problem: Exception, where: str, place: int, config: SourceConfig) -> RecordError:
    """What is wrong with a row whose text or metadata cannot be taken."""
    if isinstance(problem, UnicodeDecodeError):
        said, expected, kind = f"is not UTF-8: {problem.reason}", "UTF-8 text", "bytes that are not UTF-8"
    elif isinstance(problem, OverflowError):
        said, expected = f"cannot be held: {problem}", "values that Python knows"
        kind = "a value that Python does not know"
    else:
        named = " and ".join(map(repr, config.text_field))
        said, expected, kind = f"its column {named} is null or holds no text", "a string", NO_TEXT
    return RecordError(said, where=where, expected=expected, kind=kind, place=place)


def _plain_texts(table: Any, config: SourceConfig) -> list[str] | None:
    """The texts of rows among which there is nothing to leave out; None where there may be."""
    if table.nbytes > config.max_document_bytes:
        return None
    try:
        texts = table.column(config.text_field[0]).to_pylist()
    except UnicodeDecodeError:
        return None
    return texts if set(map(type, texts)) <= {str} else None


def _tables(unit: WorkUnit, columns: list[str] | None) -> Iterator[tuple[Any, int]]:
    """Some rows at a time, and how many rows lie before them in the file."""
    with _naming(unit.path):
        if unit.kind == "parquet":
            with _parquet(unit.path) as file:
                stop = file.num_row_groups if unit.stop is None else unit.stop
                row = sum(file.metadata.row_group(i).num_rows for i in range(unit.start))
                known = _known(columns, file.schema_arrow.names)
                # Not a row group at once: some writers put a whole file into one.
                for batch in file.iter_batches(
                    _ROWS_PER_BATCH, row_groups=range(unit.start, stop), columns=known, use_threads=False
                ):
                    yield batch, row
                    row += batch.num_rows
            return
        row = 0
        with _arrow(unit.path) as (schema, batches):
            known = _known(columns, schema.names)
            for number, batch in enumerate(batches):
                if unit.stop is not None and number >= unit.stop:
                    return
                if number >= unit.start:
                    chosen = batch if known is None else batch.select(known)
                    for start in range(0, batch.num_rows, _ROWS_PER_BATCH):
                        yield chosen.slice(start, _ROWS_PER_BATCH), row + start
                row += batch.num_rows


def _known(columns: list[str] | None, names: list[str]) -> list[str] | None:
    """Of the fields that are wanted the columns that hold them, each once."""
    if columns is None:
        return None
    return [name for name in dict.fromkeys(_root_of(column, names) for column in columns) if name in names]


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    if is_local_file(path):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
        return
    with _seekable(path) as raw, pq.ParquetFile(raw, pre_buffer=False) as file:
        yield file


def _seekable(path: str) -> Any:
    raw = open_raw(path)
    if is_url(path) and split_member(path) is None:
        return raw
    # A member of an archive, which can be read from its beginning only, is held in memory.
    with raw:
        return io.BytesIO(raw.read())


@contextmanager
def _arrow(path: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Schema and record batches of an Arrow file or stream."""
    import pyarrow as pa

    with open_raw(path) as raw:
        magic = raw.read(len(_ARROW_FILE_MAGIC))
    with pa.memory_map(path) if is_local_file(path) else _seekable(path) as source:
        if magic == _ARROW_FILE_MAGIC:
            with pa.ipc.open_file(source) as file:
                yield file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            with pa.ipc.open_stream(source) as stream:
                yield stream.schema, iter(stream)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        with open_raw(path) as raw:
            shown = content_shown(raw.read(MAGIC_BYTES))
        known = shown is None or shown in ("a Parquet file", "an Arrow file")
        looks = "" if known else f"; it looks like {shown}"
        raise DamagedFileError(f"cannot be read: {first_line}{looks}", where=path) from None


def _types() -> Any:
    import pyarrow as pa

    return pa.types


def _root_of(name: str, columns: Sequence[str]) -> str:
    """The column that holds a field, which may lie within it: that of `meta.text` is `meta`, unless one is named so."""
    return name if name in columns else name.split(".", 1)[0]


def check_columns_differ(path: str, names: Sequence[str], wanted: Sequence[str] | None) -> None:
    """See that no two columns have the name of one that is wanted; None: all are.

    Raises:
        DataError: if two have.
    """
    for name in names if wanted is None else [_root_of(field, names) for field in wanted]:
        if names.count(name) > 1:
            raise DataError(
                f"has {names.count(name)} columns {name!r}", where=path, expected="columns of different names"
            )


def _check_columns(path: str, schema: Any, config: SourceConfig) -> None:
    kept = config.metadata_fields if isinstance(config, TokenizeConfig) else []
    check_columns_differ(path, schema.names, [*config.text_field, *kept, *([ID] if kept else [])])
    for column in config.text_field:
        root = _root_of(column, schema.names)
        if root not in schema.names:
            raise DataError(
                f"has no column {column!r}, only {', '.join(schema.names)}",
                where=path,
                expected="the name of the text column (--text-field)",
                nearest=nearest(column, schema.names),
            )
        kind = schema.field(root).type
        for part in column.split(".")[1:] if root != column else ():
            inner = [field.name for field in kind] if _types().is_struct(kind) else []
            if part not in inner:
                raise DataError(
                    f"its column {root!r} holds {kind}, without {column!r}",
                    where=path,
                    expected="the name of a field that holds text (--text-field)",
                    nearest=nearest(part, inner),
                )
            kind = kind.field(part).type
        if not _holds_text(kind):
            such = f", such as {column}.{kind[0].name}" if _types().is_struct(kind) and kind.num_fields else ""
            raise DataError(
                f"its column {column!r} holds {kind}", where=path, expected=f"strings, or lists of messages{such}"
            )


def _holds_text(kind: Any) -> bool:
    """Whether a column holds texts, lists of texts, or lists of messages."""
    types = _types()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return types.is_struct(kind.value_type) or _is_string(kind.value_type)
    return _is_string(kind)


def _is_string(kind: Any) -> bool:
    types = _types()
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
