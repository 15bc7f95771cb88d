"""What is kept of a record beside its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from configs.errors import DataError, nearest
from data_prep.config import TokenizeConfig
from data_prep.documents import DamagedFileError
from data_prep.inputs import InputFile

ALL_FIELDS: tuple[str, ...] = ("*",)
"""Asks for every field of a record."""
ID = "id"
_SHOWN = 12


def metadata_of(record: dict[str, Any], fields: Sequence[str], default_id: str) -> dict[str, Any]:
    """Of a record its `id`, or where it has none `default_id`, and the fields that were asked for, where it has them.

    Raises:
        UnicodeDecodeError: for bytes, in a field that was asked for by its name, that are no text; names the field.
    """
    if fields is ALL_FIELDS:
        return {**record, ID: _id(record, default_id)}
    kept = {ID: _id(record, default_id)}
    for field in fields:
        if field != ID and field in record:
            try:
                kept[field] = _decoded(record[field])
            except UnicodeDecodeError as error:
                error.reason = f"bytes in the field {field!r}"
                raise
    return kept


def check_metadata_fields(files: list[InputFile], config: TokenizeConfig) -> None:
    """See that each field that is to be kept is a column of some file; of JSON lines that is not known beforehand.

    Raises:
        DataError: if one is not; names the nearest column.
    """
    missing = [field for field in config.metadata_fields if field != ID]
    columns: dict[str, None] = {}
    for file in files:
        if not missing or file.kind == "jsonl":
            return
        found = _columns(file, config)
        columns.update(dict.fromkeys(found))
        missing = [field for field in missing if field not in found]
    if missing:
        named = ", ".join(list(columns)[:_SHOWN])
        raise DataError(
            f"no file has the column {missing[0]!r}" if columns else f"text files have no field {missing[0]!r}",
            where="metadata_fields",
            expected=f"columns of the input: {named}" if columns else "none for text files",
            nearest=nearest(missing[0], columns),
        )


def _columns(file: InputFile, config: TokenizeConfig) -> list[str]:
    try:
        if file.kind in ("parquet", "arrow"):
            from data_prep.columnar import column_names

            return column_names(file.path, file.kind)
        if file.kind in ("csv", "tsv") and file.state.size_bytes:
            from data_prep.separated import check_header

            return check_header(file.path, file.kind, config)
    except DamagedFileError:
        pass  # Where that is allowed, it was left out.
    return []


def _id(record: dict[str, Any], default: str) -> str:
    value = record.get(ID)
    if value is None:
        return default
    # Some identifiers are bytes and no text; what each is has to stay visible.
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _decoded(value: Any) -> Any:
    """`value` with text in place of bytes, also within lists and mappings."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    return value
