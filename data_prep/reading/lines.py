"""Byte ranges of a file -> blocks of whole lines and paragraphs, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from data_prep.config import SourceConfig
from data_prep.reading.files import CHUNK_BYTES, open_stream, reading
from data_prep.reading.json_layout import JsonRecordsStream
from data_prep.reading.work_unit import WorkUnit

_BOM = b"\xef\xbb\xbf"
Block = tuple[int, bytes]  # byte position in the (decompressed) file, bytes
TooLong = Callable[[int], None]  # called with the position of what is left out


def line_blocks(
    unit: WorkUnit, max_line_bytes: int, too_long: TooLong, config: SourceConfig | None = None
) -> Iterator[Block]:
    """Blocks of about a megabyte of whole lines, of those whose first byte lies in the unit; UTF-8 of any encoding.

    A line longer than `max_line_bytes` is told to `too_long` and left out when it does not end within a block; a block
    longer than `max_line_bytes` may hold others, which the caller looks for.

    Raises:
        DataError: if the file cannot be read.
        DamagedFileError: if it breaks in the middle; the whole lines before that came first.
    """
    buffer, at = b"", 0  # the line that has not ended yet, and where it begins
    skipping = unit.start > 0
    with _opened(unit, config) as stream:
        if skipping:
            # Read from the byte before: if it is a line break, the unit begins with a line of its own.
            with reading(unit.path):
                stream.seek(unit.start - 1)
        for begin, chunk in _chunks(stream, unit.path, max(0, unit.start - 1)):
            if skipping:
                end = chunk.find(b"\n") + 1
                begin += end or len(chunk)
                if unit.stop is not None and begin >= unit.stop:
                    return
                if not end:
                    continue
                chunk, skipping = chunk[end:], False
            if not buffer:
                at = begin
            # What is whole is copied once.
            if unit.stop is not None and begin + len(chunk) >= unit.stop:
                end = chunk.find(b"\n", max(0, unit.stop - begin - 1)) + 1
                if end:
                    yield at, b"".join((buffer, memoryview(chunk)[:end]))
                    return
            end = chunk.rfind(b"\n") + 1
            if end:
                yield at, b"".join((buffer, memoryview(chunk)[:end]))
                at, buffer = begin + end, chunk[end:]
                if unit.stop is not None and at >= unit.stop:
                    return
                continue
            buffer += chunk
            if len(buffer) > max_line_bytes:
                too_long(at)
                buffer, skipping = b"", True
    if buffer:
        yield at, buffer


@contextmanager
def _opened(unit: WorkUnit, config: SourceConfig | None) -> Iterator[BinaryIO]:
    with open_stream(unit.path, config) as stream:
        yield cast(BinaryIO, JsonRecordsStream(stream)) if unit.kind == "json" else stream


def lines_of(block: Block) -> Iterator[Block]:
    """The lines of a block with their positions, line feeds left off."""
    at, data = block
    for line in data.removesuffix(b"\n").split(b"\n"):
        yield at, line
        at += len(line) + 1


def paragraphs(
    unit: WorkUnit, max_bytes: int, too_long: TooLong, config: SourceConfig | None = None
) -> Iterator[Block]:
    """Lines up to an empty one, of those paragraphs whose first byte lies in the unit.

    One that is longer than `max_bytes`, its last line break not counted, is told to `too_long` and left out as a whole.
    A byte order mark is part of the first line.

    Raises:
        DataError: as `line_blocks`.
    """
    held: list[bytes] = []
    begin = size = 0
    with _opened(unit, config) as stream:
        start = _blank_before(stream, unit)
        skipping = start == unit.start > 0  # to the end of a paragraph that is another's, or left out
        first = start == 0
        if unit.start > 0:
            with reading(unit.path):
                stream.seek(start - skipping)
        for at, line in _bounded_lines(stream, unit, start, skipping, max_bytes + 1):
            place, first = 0 if first else at, False
            past_the_unit = unit.stop is not None and place >= unit.stop
            if line is not None and not line.strip():
                if held:
                    text = b"\n".join(held)
                    if len(text.removesuffix(b"\r")) > max_bytes:
                        too_long(begin)
                    else:
                        yield begin, text.rstrip(b"\r")
                held, skipping = [], False
            elif held or (not skipping and not past_the_unit and place >= unit.start):
                begin, size = (begin, size + 1) if held else (at, 0)
                if line is not None and size + len(line) <= max_bytes + 1:
                    held.append(line)
                    size += len(line)
                else:
                    too_long(begin)
                    held, skipping = [], True
            else:
                skipping = True
            if past_the_unit and not held:
                return


def _blank_before(stream: BinaryIO, unit: WorkUnit) -> int:
    """Where the line begins that holds the byte before the unit, if it is white space up to there.

    Only then may a paragraph begin with the unit's first line. Else it is the unit's start.
    """
    low = unit.start
    while low > 0:
        high, low = low, max(0, low - CHUNK_BYTES)
        with reading(unit.path):
            stream.seek(low)
            data = stream.read(high - low)
            if high == unit.start:
                data = data.removesuffix(b"\n")
            line = data.rfind(b"\n") + 1
            solid = len(data.rstrip())
            if solid > line:
                stream.seek(0)
                if low + solid > len(_BOM) or stream.read(len(_BOM)) != _BOM:
                    return unit.start
                low = line = 0
        if line:
            return low + line
    return 0


def _bounded_lines(
    stream: BinaryIO, unit: WorkUnit, start: int, within: bool, limit: int
) -> Iterator[tuple[int, bytes | None]]:
    """Lines from byte `start` on with their positions, and an empty one at the end.

    None stands for a line longer than `limit`, an empty one for a line of so much white space; some longer ones come
    nevertheless. Reading ends within a long line that is not over when the unit is: nothing behind is the unit's.

    Args:
        stream: the file.
        unit: what part of it.
        start: where to begin.
        within: whether a line that is not empty holds the byte before `start`; its rest is left out.
        limit: bytes of a line that are kept in memory.
    """
    buffer, at = b"", start
    told, blank = within, False  # that the line is too long; that it is too long, and white space up to here
    for begin, chunk in _chunks(stream, unit.path, start - within):
        if told or blank:
            end = chunk.find(b"\n") + 1
            if blank and (chunk[:end] if end else chunk).strip():
                yield at, None
                told, blank = True, False
            begin += end or len(chunk)
            if told and unit.stop is not None and begin >= unit.stop and not end:
                return
            if not end:
                continue
            if blank:
                yield at, b""
            told = blank = False
            chunk = chunk[end:]
        if not buffer:
            at = begin
        end = chunk.rfind(b"\n") + 1
        if end:
            yield from lines_of((at, b"".join((buffer, memoryview(chunk)[:end]))))
            at, buffer = begin + end, chunk[end:]
        else:
            buffer += chunk
        if len(buffer) > limit:
            blank = not buffer.strip()
            told, buffer = not blank, b""
            if told:
                yield at, None
    if buffer:
        yield at, buffer
    yield at + len(buffer), b""


def _chunks(stream: BinaryIO, path: str, at: int) -> Iterator[Block]:
    """The file as it is read from byte `at` on, where `stream` stands, without its byte order mark."""
    # One read of the decompressor at a time, so that nothing in front of a break is lost with it.
    read = getattr(stream, "read1", stream.read)
    while True:
        with reading(path):
            chunk = read(CHUNK_BYTES)
            while at == 0 and 0 < len(chunk) < len(_BOM) and (more := read(CHUNK_BYTES)):
                chunk += more
        if not chunk:
            return
        if at == 0 and chunk.startswith(_BOM):
            at, chunk = len(_BOM), chunk[len(_BOM) :]
        yield at, chunk
        at += len(chunk)


def line_number(path: str, at: int, config: SourceConfig | None = None) -> int:
    """Number, from 1, of the line that begins at byte `at` of a file as it is read."""
    breaks = 0
    with open_stream(path, config) as stream, reading(path):
        while at > 0 and (chunk := stream.read(min(at, CHUNK_BYTES))):
            breaks += chunk.count(10)
            at -= len(chunk)
    return breaks + 1


def whole(stream: BinaryIO, max_bytes: int) -> bytes | None:
    """All that is left of `stream`; None when that is more than `max_bytes`."""
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            return None
    return b"".join(parts).removeprefix(_BOM)
