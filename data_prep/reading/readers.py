"""Units of work -> documents. Every problem of a file is one error that names the file and the line."""

from __future__ import annotations

import itertools
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from configs.errors import nearest
from data_prep.config import SourceConfig
from data_prep.reading.documents import NO_TEXT, Batch, DamagedFileError, Document, ReadCounts, RecordError
from data_prep.reading.encodings import decoding_problem, encoding_shown, valid_bytes
from data_prep.reading.files import open_stream, reading, said_content
from data_prep.reading.line_breaks import with_line_feeds, with_lines_of_old_macs
from data_prep.reading.lines import Block, line_blocks, line_number, lines_of, paragraphs, whole
from data_prep.reading.records import (
    ALL_FIELDS,
    RECORDS,
    field_names,
    field_of,
    metadata_of,
    parse_record,
    text_of,
    too_deep,
    too_long,
)
from data_prep.reading.work_unit import WorkUnit

_PARAGRAPHS_PER_BATCH = 256


def read_documents(unit: WorkUnit, config: SourceConfig, counts: ReadCounts) -> Iterator[Document]:
    """The documents of `unit` one by one, in order, with all their metadata; see `read_batches`."""
    for batch in read_batches(unit, config, counts, ALL_FIELDS):
        assert batch.metadata is not None
        for text, fields in zip(batch.texts, batch.metadata):
            yield Document(text, fields.pop("id"), fields)


def read_batches(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None = None
) -> Iterator[Batch]:
    """The documents of `unit` in batches, in order; what is left out is added to `counts`.

    Args:
        unit: what to read.
        config: how; `malformed` and `damaged_files` say what ends the work.
        counts: what was left out.
        fields: metadata that is wanted beside the `id` of each document; None: no metadata, which is faster.

    Raises:
        DataError: if the file cannot be read, or the settings say that a record ends the work.
    """
    try:
        if unit.kind in ("parquet", "arrow"):
            from data_prep.reading.columnar import read_columnar

            yield from read_columnar(unit, config, counts, fields)
        elif unit.kind in ("csv", "tsv"):
            from data_prep.reading.separated import read_separated

            yield from read_separated(unit, config, counts, fields)
        elif unit.kind in ("jsonl", "json"):
            yield from _read_jsonl(unit, config, counts, fields)
        elif unit.kind == "html":
            from data_prep.reading.pages import read_html

            yield from read_html(unit, config, counts, fields)
        elif unit.kind == "warc":
            from data_prep.reading.pages import read_web_archive

            yield from read_web_archive(unit, config, counts, fields)
        else:
            yield from _read_text(unit, config, counts, fields)
    except DamagedFileError as error:
        counts.leave_out(error, "damaged_files", config)


def _read_jsonl(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    limit, single = config.max_document_bytes, len(config.text_field) == 1 and "." not in config.text_field[0]
    field = config.text_field[0]
    loads = orjson.loads
    for block in line_blocks(unit, limit, _left_out(unit, config, counts), config):
        if fields is None and len(block[1]) <= limit:
            # The road of nearly all text: one comprehension, checked as a whole; anything odd is taken line by line.
            try:
                lines = block[1].split(b"\n")
                if not lines[-1]:
                    lines.pop()
                if single:
                    texts = [loads(line)[field] for line in lines]
                    if set(map(type, texts)) != {str}:
                        raise TypeError
                else:
                    texts = [text_of(loads(line), config) for line in lines]
                yield Batch(texts)
                continue
            except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
                pass
        yield _parse_each(unit, block, config, counts, fields)


def _parse_each(
    unit: WorkUnit, block: Block, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Batch:
    """A block whose lines need a look each: blank, malformed or too long ones, or metadata to keep."""
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    places: list[int] = []
    for at, line in lines_of(block):
        if len(line) > config.max_document_bytes:
            too_long(config, counts, unit.path, "byte", at)
            continue
        try:
            record, replaced = parse_record(line)
            text = text_of(record, config)
            kept = None if fields is None else metadata_of(record, fields, f"{unit.name}@{at}")
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            if line and not line.isspace():
                counts.leave_out(_explain_record(unit, at, line, config), "malformed", config)
            continue
        except OverflowError:
            counts.leave_out(too_deep(_where(unit, at, config), at, line), "malformed", config)
            continue
        texts.append(text)
        counts.replaced += replaced
        if kept is not None:
            metadata.append(kept)
            places.append(at)
    return Batch(texts) if fields is None else Batch(texts, metadata, places)


def _where(unit: WorkUnit, at: int, config: SourceConfig) -> str:
    # Where the work goes on, the byte has to do: counting lines costs a pass over all that lies before.
    place = f"line {line_number(unit.path, at, config)}" if config.malformed == "stop" else f"byte {at}"
    return f"{unit.path}, {place}"


def _explain_record(unit: WorkUnit, at: int, line: bytes, config: SourceConfig) -> RecordError:
    where = _where(unit, at, config)
    named = " and ".join(map(repr, config.text_field))
    expected = f"a JSON object with the text field {named}"
    try:
        record, _ = parse_record(line)
    except orjson.JSONDecodeError as error:
        no_text = _no_text(unit, line, config)
        # The position left off: equal problems are one kind.
        kind = (
            f"bytes that are not {encoding_shown(config.encoding)}"
            if no_text
            else f"no JSON ({str(error).split(':')[0]})"
        )
        problem = no_text or f"is not valid JSON: {error}"
        return RecordError(problem, where=where, expected=expected, kind=kind, raw=line, place=at)
    if not isinstance(record, dict):
        what = type(record).__name__
        kind = f"a JSON {what} for an object"
        return RecordError(f"holds a JSON {what}", where=where, expected=expected, kind=kind, raw=line, place=at)
    for field in config.text_field:
        try:
            value = field_of(record, field)
        except (KeyError, TypeError, IndexError):
            keys = field_names(record)
            return RecordError(
                f"has no field {field!r}, only {', '.join(keys[:12]) or 'nothing'}",
                where=where,
                expected=f"{expected} (--text-field names it)",
                nearest=nearest(field, keys),
                kind=f"no field {field!r}",
                raw=line,
                place=at,
            )
        if isinstance(value, dict):
            return RecordError(
                f"its field {field!r} holds dict",
                where=where,
                expected="a string",
                nearest=next((f"{field}.{key}" for key in value), None),
                kind=f"dict for text in field {field!r}",
                raw=line,
                place=at,
            )
    values = [(name, field_of(record, name)) for name in config.text_field]
    field, value = next((found for found in values if type(found[1]) not in (str, type(None))), values[0])
    what = "a list that is no conversation" if isinstance(value, list) else type(value).__name__
    return RecordError(
        f"its field {field!r} holds {what}",
        where=where,
        expected="a string, texts, or messages",
        kind=NO_TEXT if value is None else f"{what} for text in field {field!r}",
        raw=line,
        place=at,
    )


def _read_text(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    left_out = _left_out(unit, config, counts)
    if config.text_documents == "file":
        with open_stream(unit.path, config) as stream, reading(unit.path):
            data = whole(stream, config.max_document_bytes)
        if data is None:
            left_out(0)
        else:
            yield _decode_each(unit, iter([(0, data)]), config, counts, fields)
        return
    if config.text_documents == "paragraph":
        parts = paragraphs(unit, config.max_document_bytes, left_out, config)
        while group := list(itertools.islice(parts, _PARAGRAPHS_PER_BATCH)):
            yield _decode_each(unit, iter(group), config, counts, fields)
        return
    for number, block in enumerate(line_blocks(unit, config.max_document_bytes, left_out, config)):
        block = with_lines_of_old_macs(block, unit) if number == 0 else block
        # A byte order mark stands before a line where files were joined.
        odd = any(mark in block[1] for mark in (b"\r", b"\0", BOM_UTF8))
        if fields is None and len(block[1]) <= config.max_document_bytes and not odd:
            try:
                yield Batch(block[1].decode().removesuffix("\n").split("\n"))
                continue
            except UnicodeDecodeError:
                pass
        lines = ((at, line.removesuffix(b"\r").removeprefix(BOM_UTF8)) for at, line in lines_of(block))
        yield _decode_each(unit, lines, config, counts, fields)


def _decode_each(
    unit: WorkUnit, parts: Iterator[Block], config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Batch:
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    places: list[int] = []
    for at, part in parts:
        if len(part) > config.max_document_bytes:
            too_long(config, counts, unit.path, "byte", at)
            continue
        problem = None
        try:
            text = part.decode()
            if b"\0" in part:
                problem = _no_text(unit, part, config)
        except UnicodeDecodeError:
            problem = _no_text(unit, part, config)
        if problem is not None:
            place = f"byte {at}"
            if config.malformed == "stop":
                place = f"line {line_number(unit.path, at, config) + part[: valid_bytes(part)].count(10)}"
            kind = f"bytes that are not {encoding_shown(config.encoding)}"
            found = RecordError(
                problem,
                where=f"{unit.path}, {place}",
                expected=f"text in {config.encoding}",
                kind=kind,
                raw=part,
                place=at,
            )
            counts.leave_out(found, "malformed", config)
            continue
        texts.append(with_line_feeds(text, config, unit.path) if b"\r" in part else text)
        if fields is not None:
            own = {"id": unit.name if unit.stop is None and at == 0 else f"{unit.name}@{at}"}
            metadata.append({} if fields is RECORDS else own)
            places.append(at)
    return Batch(texts) if fields is None else Batch(texts, metadata, places)


def _left_out(unit: WorkUnit, config: SourceConfig, counts: ReadCounts) -> Callable[[int], None]:
    divided = {"file": "line or paragraph", "paragraph": "line"}.get(config.text_documents, "")
    parts = divided if unit.kind == "text" else ""
    return lambda at: too_long(config, counts, unit.path, "byte", at, parts)


def _no_text(unit: WorkUnit, data: bytes, config: SourceConfig) -> str | None:
    """Why bytes are no text, and what the file may be instead."""
    problem = decoding_problem(data, config.encoding)
    if problem is None and b"\0" in data:
        shown = said_content(unit.path, config.encoding)
        return f"holds zero bytes; the file {shown}" if shown is not None else None
    shown = said_content(unit.path, config.encoding) if problem is not None else None
    return f"{problem}; the file {shown}" if shown is not None else problem
