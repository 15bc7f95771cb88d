"""Parquet files and saved Hugging Face datasets (Arrow streams): units of work and documents.

Arrow streams are read with pyarrow directly: importing `datasets` in every worker takes longer than a unit of work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.documents import Document, ReadCounts
from data_prep.work_unit import Kind, WorkUnit


def columnar_units(path: Path, kind: Kind, config: SourceConfig) -> list[WorkUnit]:
    """Cut a file into units at the borders of its row groups (Parquet) or record batches (Arrow).

    Raises:
        DataError: if the file is damaged, or has no text column.
    """
    import pyarrow.parquet as pq

    with _naming(path):
        if kind == "parquet":
            with pq.ParquetFile(path) as file:
                _check_column(path, file.schema_arrow, config.text_field)
                groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
                sizes = [max(1, group.total_byte_size) for group in groups]
        else:
            with _arrow_stream(path) as reader:
                _check_column(path, reader.schema, config.text_field)
                sizes = [max(1, batch.nbytes) for batch in reader]
    units, start, pending = [], 0, 0
    for number, size in enumerate(sizes):
        pending += size
        if pending >= config.work_unit_bytes or number == len(sizes) - 1:
            units.append(WorkUnit(path, kind, start, number + 1, pending))
            start, pending = number + 1, 0
    return units


def read_columnar(unit: WorkUnit, config: SourceConfig, counts: ReadCounts) -> Iterator[Document]:
    """The documents of a unit; rows whose text is null are malformed."""
    for batch, rows_before in _batches(unit, config.text_field):
        for row, text in enumerate(batch, rows_before):
            if text is None:
                if config.malformed == "skip":
                    counts.malformed += 1
                    continue
                where = f"{unit.path}, row {row + 1}"
                raise DataError(f"its column {config.text_field!r} is null", where=where, expected="a string")
            yield Document(text, f"{unit.path.name}@{row}")


def _batches(unit: WorkUnit, column: str) -> Iterator[tuple[list[str | None], int]]:
    """Texts of one row group or record batch, and how many rows lie before it in the file."""
    import pyarrow.parquet as pq

    with _naming(unit.path):
        if unit.kind == "parquet":
            with pq.ParquetFile(unit.path) as file:
                stop = file.num_row_groups if unit.stop is None else unit.stop
                rows = sum(file.metadata.row_group(i).num_rows for i in range(unit.start))
                for group in range(unit.start, stop):
                    table = file.read_row_group(group, columns=[column], use_threads=False)
                    yield table.column(column).to_pylist(), rows
                    rows += table.num_rows
            return
        rows = 0
        with _arrow_stream(unit.path) as reader:
            for number, batch in enumerate(reader):
                if unit.stop is not None and number >= unit.stop:
                    return
                if number >= unit.start:
                    yield batch.column(batch.schema.get_field_index(column)).to_pylist(), rows
                rows += batch.num_rows


@contextmanager
def _arrow_stream(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield reader


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot be read: {first_line}", where=path) from None


def _check_column(path: Path, schema: Any, column: str) -> None:
    import pyarrow as pa

    if column not in schema.names:
        raise DataError(
            f"has no column {column!r}, only {', '.join(schema.names)}",
            where=path,
            expected="the name of the text column (--text-field)",
            nearest=nearest(column, schema.names),
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(f"its column {column!r} holds {kind}", where=path, expected="strings")
