"""What is taken of a record: its text, and the metadata that is kept beside it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from configs.errors import printable
from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts, RecordError

ALL_FIELDS: tuple[str, ...] = ("*",)
"""Asks for every field of a record, and an `id`."""
RECORDS: tuple[str, ...] = ("**",)
"""Asks for the records as they are, with or without an `id`."""
ID = "id"
MAX_DEPTH = 200
"""Lists and objects within one another that metadata may have; what writes them takes little more."""
NESTED_TOO_DEEP = "is nested too deep"

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
            text = json.dumps(value, ensure_ascii=False)
        except (ValueError, RecursionError):
            value = None
        if value is None:
            raise
    if not _SURROGATE.search(text):
        return value, False
    return json.loads(_SURROGATE.sub("\ufffd", text)), True


def say_replaced(records: int, where: str) -> None:
    """Say, on standard error, in how many records of an input halves of surrogate pairs were replaced."""
    print(
        printable(f"{where}: replaced half a surrogate pair by U+FFFD in {records:,} records"),
        file=sys.stderr,
        flush=True,
    )


def too_long(config: SourceConfig, counts: ReadCounts, path: str, place: str, at: int, parts: str = "") -> None:
    """Leave out a record that is longer than `max_document_bytes`.

    Args:
        config: has the limit.
        counts: what was left out.
        path: the file.
        place: what `at` numbers there: bytes, lines, rows.
        at: where it begins.
        parts: the values of `text_documents` that would divide it, if there are any.
    """
    problem = f"is longer than max_document_bytes = {config.max_document_bytes}"
    if parts:
        problem += f"; text_documents={parts} makes documents of its parts"
    error = RecordError(problem, where=f"{path}, {place} {at}", expected="a shorter document", place=at)
    counts.leave_out(error, "too_long", config)


def is_too_long(texts: Sequence[str], config: SourceConfig) -> bool:
    """Whether texts have more bytes together than `max_document_bytes`."""
    chars = sum(map(len, texts))
    if chars * 4 <= config.max_document_bytes:
        return False
    limit = config.max_document_bytes
    return chars > limit or sum(len(text.encode(errors="surrogatepass")) for text in texts) > limit


def field_of(record: Any, name: str) -> Any:
    """The value of a field; one within others is named with dots, as in `meta.text`, unless a field has that name.

    Raises:
        KeyError, TypeError, IndexError: if there is none.
    """
    if "." not in name or name in record:
        return record[name]
    for part in name.split("."):
        if not isinstance(record, dict):
            raise TypeError
        record = record[part]
    return record


def field_names(record: dict[str, Any]) -> list[str]:
    """The names of the fields of a record, those within others with dots, for messages."""
    inner = [f"{name}.{key}" for name, value in record.items() if isinstance(value, dict) for key in value]
    return [*map(str, record), *inner]


def text_of(record: Any, config: SourceConfig) -> str:
    """The text of a record: its text field, or several joined; of those a null or empty one is left away.

    A field that is a list of texts, or of the messages of a conversation, is joined likewise: `role: content` for each
    message that has both (`from` and `value` in some datasets); contents that are parts are the texts of those.

    Raises:
        KeyError, TypeError, IndexError: if it has none.
    """
    parts = [field_of(record, name) for name in config.text_field]
    if len(parts) == 1 and type(parts[0]) is str:
        return parts[0]
    texts = [part if part is None or type(part) is str else _joined(part, config) for part in parts]
    if not any(text is not None for text in texts):
        raise TypeError
    return config.text_separator.join(text for text in texts if text)


def _joined(value: Any, config: SourceConfig) -> str:
    if not isinstance(value, list) or not value:
        raise TypeError
    return config.text_separator.join(filter(None, map(_text_of_item, value)))


def _text_of_item(item: Any) -> str | None:
    """A text, or a message of a conversation as text; None for one without content, such as a call of a tool."""
    if item is None or type(item) is str:
        return item
    if not isinstance(item, dict):
        raise TypeError
    content_key, role_key = ("content", "role") if "content" in item else ("value", "from")
    role = item.get(role_key)
    if content_key not in item and type(item.get("role", role)) is str:
        return None
    content = item[content_key]
    if isinstance(content, list):
        content = "".join(filter(None, map(_text_of_part, content)))
    if content is not None and type(content) is not str:
        raise TypeError
    return f"{role}: {content}" if content and type(role) is str else content


def _text_of_part(part: Any) -> str | None:
    """The text of a part of a message; None for one without, such as an image."""
    if type(part) is str:
        return part
    if not isinstance(part, dict):
        raise TypeError
    return part.get("text")


def metadata_of(record: dict[str, Any], fields: Sequence[str], default_id: str) -> dict[str, Any]:
    """Of a record its `id`, or where it has none `default_id`, and the fields that were asked for, where it has them.

    Raises:
        UnicodeDecodeError: for bytes, in a field that was asked for by its name, that are no text; names the field.
        OverflowError: for a field, asked for by its name, of more than `MAX_DEPTH` values within one another.
    """
    if fields is RECORDS:
        return record
    if fields is ALL_FIELDS:
        return {**record, ID: _id(record, default_id)}
    kept = {ID: _id(record, default_id)}
    for field in fields:
        if field == ID:
            continue
        try:
            value = field_of(record, field)
        except (KeyError, TypeError):
            continue
        else:
            try:
                kept[field] = _decoded(value)
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


def too_deep(where: str, place: int, raw: str | bytes = "") -> RecordError:
    """What is said of a record of more than `MAX_DEPTH` values within one another."""
    expected = f"at most {MAX_DEPTH} lists and objects within one another in fields that are kept"
    return RecordError(NESTED_TOO_DEEP, where=where, expected=expected, raw=raw, place=place)


def _decoded(value: Any, depth: int = 0) -> Any:
    """`value` with text in place of bytes, also within lists and mappings."""
    if depth > MAX_DEPTH:
        raise OverflowError(NESTED_TOO_DEEP)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_decoded(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _decoded(item, depth + 1) for key, item in value.items()}
    return value
