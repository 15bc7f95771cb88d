"""What is taken of a record: its text, and the metadata that is kept beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts

ALL_FIELDS: tuple[str, ...] = ("*",)
"""Asks for every field of a record."""
ID = "id"


_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_record(line: bytes) -> tuple[Any, bool]:
    """The JSON value of a line, and whether halves of surrogate pairs in it were replaced by U+FFFD.

    Also what Python's own library writes and JSON does not know: `NaN`, `Infinity`, lone surrogates; and a byte order
    mark, which stands before a line where files were joined.

    Raises:
        orjson.JSONDecodeError: if it is none.
    """
    try:
        return orjson.loads(line), False
    except orjson.JSONDecodeError:
        try:
            value = json.loads(line.removeprefix(_BOM).decode())
        except (ValueError, RecursionError):
            value = None
        if value is None:
            raise
    text = json.dumps(value, ensure_ascii=False)
    if not _SURROGATE.search(text):
        return value, False
    return json.loads(_SURROGATE.sub("\ufffd", text)), True


def too_long(config: SourceConfig, counts: ReadCounts, where: str) -> None:
    """Leave out a record that is longer than `max_document_bytes`."""
    error = DataError(
        f"is longer than max_document_bytes = {config.max_document_bytes}", where=where, expected="a shorter document"
    )
    counts.leave_out(error, "too_long", config)


def is_too_long(texts: Sequence[str], config: SourceConfig) -> bool:
    """Whether texts have more bytes together than `max_document_bytes`."""
    chars = sum(map(len, texts))
    if chars * 4 <= config.max_document_bytes:
        return False
    limit = config.max_document_bytes
    return chars > limit or sum(len(text.encode(errors="surrogatepass")) for text in texts) > limit


def text_of(record: Any, config: SourceConfig) -> str:
    """The text of a record: its text field, or several joined; of those a null or empty one is left away.

    Raises:
        KeyError, TypeError, IndexError: if it has none.
    """
    if len(config.text_field) == 1:
        text = record[config.text_field[0]]
        if type(text) is not str:
            raise TypeError
        return text
    parts = [record[field] for field in config.text_field]
    if not all(part is None or type(part) is str for part in parts) or not any(part is not None for part in parts):
        raise TypeError
    return config.text_separator.join(part for part in parts if part)


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
