"""Byte ranges of a file -> blocks of whole lines and paragraphs, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from data_prep.files import CHUNK_BYTES, open_stream, reading
from data_prep.work_unit import WorkUnit

_BOM = b"\xef\xbb\xbf"
Block = tuple[int, bytes]  # byte position in the (decompressed) file, bytes
TooLong = Callable[[int], None]  # called with the position of what is left out


def line_blocks(unit: WorkUnit, max_line_bytes: int, too_long: TooLong) -> Iterator[Block]:
    """Blocks of about a megabyte of whole lines, of those whose first byte lies in the unit.

    A line longer than `max_line_bytes` is told to `too_long` and left out when it does not end within a block; a block
    longer than `max_line_bytes` may hold others, which the caller looks for.

    Raises:
        DataError: if the file cannot be read.
        DamagedFileError: if it breaks in the middle; the whole lines before that came first.
    """
    with open_stream(unit.path) as stream:
        # One read of the decompressor at a time, so that nothing in front of a break is lost with it.
        read = getattr(stream, "read1", stream.read)
        at, buffer = unit.start, b""
        skipping = at > 0
        if skipping:
            # Read from the byte before: if it is a line break, the unit begins with a line of its own.
            with reading(unit.path):
                stream.seek(at - 1)
            at -= 1
        last = False
        while not last:
            with reading(unit.path):
                chunk = read(CHUNK_BYTES)
                while at == 0 and not buffer and 0 < len(chunk) < len(_BOM) and (more := read(CHUNK_BYTES)):
                    chunk += more
            last = not chunk
            if skipping:
                end = chunk.find(b"\n") + 1
                at += end or len(chunk)
                if unit.stop is not None and at >= unit.stop:
                    return
                if not end:
                    continue
                chunk, skipping = chunk[end:], False
            if at == 0 and not buffer and chunk.startswith(_BOM):
                at, chunk = len(_BOM), chunk[len(_BOM) :]
            # `buffer` begins a line that has not ended yet. What is whole is copied once.
            if unit.stop is not None and at + len(buffer) + len(chunk) >= unit.stop:
                end = chunk.find(b"\n", max(0, unit.stop - at - len(buffer) - 1)) + 1
                if end:
                    yield at, b"".join((buffer, memoryview(chunk)[:end]))
                    return
            end = chunk.rfind(b"\n") + 1
            if end or (last and buffer):
                block = b"".join((buffer, memoryview(chunk)[:end]))
                yield at, block
                at, buffer = at + len(block), chunk[end:]
                if unit.stop is not None and at >= unit.stop:
                    return
                continue
            buffer += chunk
            if len(buffer) > max_line_bytes:
                too_long(at)
                at, buffer, skipping = at + len(buffer), b"", True


def lines_of(block: Block) -> Iterator[Block]:
    """The lines of a block with their positions, line feeds left off."""
    at, data = block
    for line in data.removesuffix(b"\n").split(b"\n"):
        yield at, line
        at += len(line) + 1


def paragraphs(unit: WorkUnit, max_bytes: int, too_long: TooLong) -> Iterator[Block]:
    """Paragraphs that follow an empty line whose first byte lies in the unit, and the first of the file.

    Raises:
        DataError: as `line_blocks`.
    """
    unbounded = WorkUnit(unit.path, unit.kind, unit.start, None, unit.size_bytes)
    next_is_ours = unit.start == 0
    held: list[bytes] = []
    begin = held_bytes = 0
    for block in line_blocks(unbounded, max_bytes, too_long):
        for at, line in lines_of(block):
            past_the_unit = unit.stop is not None and at >= unit.stop
            if not line.strip():
                if held:
                    yield begin, b"\n".join(held).rstrip(b"\r")
                    held, held_bytes = [], 0
                next_is_ours = True
                if past_the_unit:
                    return
            elif held:
                held.append(line)
                held_bytes += len(line) + 1
                if held_bytes > max_bytes:
                    too_long(begin)
                    held, held_bytes, next_is_ours = [], 0, False
            elif next_is_ours:
                begin, held, held_bytes = at, [line], len(line)
            elif past_the_unit:
                return
    if held:
        yield begin, b"\n".join(held).rstrip(b"\r")


def line_number(path: str, at: int) -> int:
    """Number, from 1, of the line that begins at byte `at`."""
    breaks = 0
    with open_stream(path) as stream, reading(path):
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
