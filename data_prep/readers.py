"""Units of work -> documents. Every problem of a file is one error that names the file and the line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.documents import Document, ReadCounts
from data_prep.work_unit import WorkUnit

_BOM = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 20
Line = tuple[int, bytes]  # byte position in the (decompressed) file, the line with its line break


def read_documents(unit: WorkUnit, config: SourceConfig, counts: ReadCounts) -> Iterator[Document]:
    """The documents of `unit`, in order; records left out are added to `counts`.

    Raises:
        DataError: if the file is damaged or, unless `config.malformed` is `skip`, a record is.
    """
    if unit.kind in ("parquet", "arrow"):
        from data_prep.columnar import read_columnar

        return read_columnar(unit, config, counts)
    if unit.kind == "jsonl":
        return _read_jsonl(unit, config, counts)
    if config.text_documents == "line":
        return _decoded(unit, config, counts, ((at, line.rstrip(b"\r\n")) for at, line in _lines(unit)))
    if config.text_documents == "paragraph":
        return _decoded(unit, config, counts, _paragraphs(unit))
    return _decoded(unit, config, counts, _whole_file(unit))


def _read_jsonl(unit: WorkUnit, config: SourceConfig, counts: ReadCounts) -> Iterator[Document]:
    field, name = config.text_field, unit.path.name
    for at, line in _lines(unit):
        try:
            record = orjson.loads(line)
            text = record[field]
            if type(text) is not str:
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            if line.isspace():
                continue
            if config.malformed == "skip":
                counts.malformed += 1
                continue
            raise _explain_record(unit, at, line, field) from None
        # str() of the position is cheap; counting lines would cost a pass over what lies before this unit.
        yield Document(text, str(record.get("id", f"{name}@{at}")), record)


def _explain_record(unit: WorkUnit, at: int, line: bytes, field: str) -> DataError:
    where = f"{unit.path}, line {_line_number(unit, at)}"
    expected = f"a JSON object with the text field {field!r}"
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = _utf8_problem(line) or f"is not valid JSON: {error}"
        return DataError(problem, where=where, expected=expected)
    if not isinstance(record, dict):
        return DataError(f"holds a JSON {type(record).__name__}", where=where, expected=expected)
    if field not in record:
        keys = [str(key) for key in record]
        return DataError(
            f"has no field {field!r}, only {', '.join(keys[:12]) or 'nothing'}",
            where=where,
            expected=f"{expected} (--text-field names it)",
            nearest=nearest(field, keys),
        )
    found = type(record[field]).__name__
    return DataError(f"its field {field!r} holds {found}", where=where, expected="a string")


def _decoded(unit: WorkUnit, config: SourceConfig, counts: ReadCounts, parts: Iterator[Line]) -> Iterator[Document]:
    name = unit.path.name
    for at, part in parts:
        try:
            yield Document(part.decode(), f"{name}@{at}")
        except UnicodeDecodeError as error:
            if config.malformed == "skip":
                counts.malformed += 1
                continue
            where = f"{unit.path}, line {_line_number(unit, at) + part[: error.start].count(10)}"
            raise DataError(_utf8_problem(part) or "is not UTF-8", where=where, expected="UTF-8 text") from None


def _utf8_problem(data: bytes) -> str | None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        return f"is not UTF-8: byte 0x{data[error.start]:02x} at byte {column + 1} of the line"
    return None


def _whole_file(unit: WorkUnit) -> Iterator[Line]:
    with open_stream(unit.path) as stream:
        yield 0, _reading(unit, stream.read).removeprefix(_BOM)


def _lines(unit: WorkUnit) -> Iterator[Line]:
    """Lines whose first byte lies in the unit."""
    with open_stream(unit.path) as stream:
        at = unit.start
        if at:
            # Read from the byte before: if it is a line break, the unit begins with a line of its own.
            stream.seek(at - 1)
            at += len(stream.readline()) - 1
        while unit.stop is None or at < unit.stop:
            line = _reading(unit, stream.readline)
            if not line:
                return
            yield at, line.removeprefix(_BOM) if at == 0 else line
            at += len(line)


def _paragraphs(unit: WorkUnit) -> Iterator[Line]:
    """Paragraphs that follow an empty line whose first byte lies in the unit, and the first of the file."""
    unbounded = WorkUnit(unit.path, unit.kind, unit.start, None, unit.size_bytes)
    next_is_ours = unit.start == 0
    paragraph: list[bytes] = []
    begin = 0
    for at, line in _lines(unbounded):
        if not line.strip():
            if paragraph:
                yield begin, b"".join(paragraph).rstrip(b"\r\n")
                paragraph = []
            next_is_ours = True
            if unit.stop is not None and at >= unit.stop:
                return
        elif paragraph:
            paragraph.append(line)
        elif next_is_ours:
            begin = at
            paragraph.append(line)
        elif unit.stop is not None and at >= unit.stop:
            return
    if paragraph:
        yield begin, b"".join(paragraph).rstrip(b"\r\n")


def open_stream(path: Path) -> BinaryIO:
    """The bytes of `path`, decompressed if its name ends in .gz or .zst.

    Raises:
        DataError: if it cannot be opened.
    """
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rb")  # type: ignore[return-value]
        if path.suffix == ".zst":
            from data_prep.zstd import ZstdStream

            return ZstdStream.open(path)
        return path.open("rb", buffering=_CHUNK_BYTES)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None


def _reading(unit: WorkUnit, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except EOFError:
        raise DataError("is truncated", where=unit.path, expected=f"a complete {unit.compression} file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"is not valid gzip: {error}", where=unit.path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=unit.path) from None


def _line_number(unit: WorkUnit, at: int) -> int:
    """Number, from 1, of the line that begins at byte `at`."""
    breaks = 0
    with open_stream(unit.path) as stream:
        while at > 0 and (chunk := stream.read(min(at, _CHUNK_BYTES))):
            breaks += chunk.count(10)
            at -= len(chunk)
    return breaks + 1
