"""JSON that is not one record per line: an array of records, or records over several lines, as lines of records."""

from __future__ import annotations

import re
from typing import BinaryIO

import orjson

from data_prep.config import SourceConfig
from data_prep.reading.byte_stream import ByteStream
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.files import open_stream, reading

_HEAD_BYTES = 1 << 16
_READ_BYTES = 1 << 18
_LINES_LOOKED_AT = 8
_STRING_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],]', re.S)
_BREAKS_TO_SPACES = bytes.maketrans(b"\n\r", b"  ")
# JSON forbids both in a string: the record stays one line and is found to be wrong.
_BREAKS_IN_STRINGS = bytes.maketrans(b"\n\r", b"\v\v")
_BOM = b"\xef\xbb\xbf"


def is_json_document(path: str, config: SourceConfig) -> bool:
    """Whether a JSON file begins with an array, or with a record that goes on in the next line.

    Raises:
        DataError: if the file cannot be opened.
    """
    head = b""
    try:
        with open_stream(path, config) as stream, reading(path):
            while len(head) < _HEAD_BYTES and (chunk := stream.read(_HEAD_BYTES)):
                head += chunk
                if not _may_be_document(head):
                    return False
    except DamagedFileError:
        pass  # Who reads it says so.
    start = head.removeprefix(_BOM).lstrip()
    if start.startswith(b"["):
        return True
    lines = [line for line in start.splitlines()[: _LINES_LOOKED_AT + 1] if line.strip()]
    # A damaged first line, and whole records behind it, is a damaged line.
    return len(lines) > 1 and _goes_on(lines[0]) and not any(map(_is_record, lines[1:]))


def _may_be_document(head: bytes) -> bool:
    start = head.removeprefix(_BOM).lstrip()
    if start[:1] not in (b"", b"{", b"["):
        return False
    first, line_break, _ = start.partition(b"\n")
    return start[:1] == b"[" or not line_break or _goes_on(first)


def _goes_on(line: bytes) -> bool:
    within = _Structure()
    within.lines_of(line)
    return within.depth > 0 and not within.in_string


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


class _Structure:
    """What is open between two pieces of a JSON text: brackets, an array of records around them, a string."""

    def __init__(self) -> None:
        self.depth, self.in_array, self.in_string = 0, False, False
        self._held = b""  # a backslash at the end of a piece, whose letter comes with the next one
        self._break_due = False  # a record ended with the last piece

    def lines_of(self, piece: bytes) -> bytes:
        """The piece with a line break after each record and only there, of the same length wherever that is possible.

        Line breaks within records become spaces, within strings another character that JSON forbids there; commas
        between records and the brackets of an array around them become line breaks and spaces. So the position of a
        record is that in the file.
        """
        data, self._held = self._held + piece, b""
        out = bytearray(data.translate(_BREAKS_TO_SPACES))
        position = 0
        inserted: list[int] = []
        if self._break_due and data:
            self._break_due = False
            self._break_at(0, data, out, inserted)
        if self.in_string:
            rest = _STRING_REST.match(data)
            self.in_string = rest is None
            position = len(data) if rest is None else rest.end()
            out[:position] = data[:position].translate(_BREAKS_IN_STRINGS)
        for token in _TOKEN.finditer(data, position):
            at = token.start()
            mark = data[at]
            if mark == 0x22:  # a string, or the beginning of one
                self.in_string = token.end() == at + 1
                end = len(data) if self.in_string else token.end()
                if data.find(b"\n", at, end) >= 0 or data.find(b"\r", at, end) >= 0:
                    out[at:end] = data[at:end].translate(_BREAKS_IN_STRINGS)
                if self.in_string:
                    break
            elif mark == 0x2C:  # a comma
                if self.depth == self.in_array:
                    out[at] = 0x0A
            elif mark in (0x7B, 0x5B):
                if mark == 0x5B and not self.depth:
                    self.in_array = True
                    out[at] = 0x20
                self.depth += 1
            else:
                self.depth = max(0, self.depth - 1)
                if not self.depth and self.in_array:
                    self.in_array = False
                    out[at] = 0x0A
                elif not self.depth:
                    self._break_at(at + 1, data, out, inserted)
        if self.in_string and (len(data) - len(data.rstrip(b"\\"))) % 2:
            self._held = b"\\"
            out.pop()
        for at in reversed(inserted):
            out.insert(at, 0x0A)
        return bytes(out)

    def _break_at(self, at: int, data: bytes, out: bytearray, inserted: list[int]) -> None:
        if at == len(data):
            self._break_due = True
        elif data[at : at + 1].isspace() or data[at] == 0x2C:
            out[at] = 0x0A
        else:
            inserted.append(at)


class JsonRecordsStream(ByteStream):
    """A JSON text of any layout as lines of one record each.

    Only the structure is looked at: what is wrong within a record is found by whoever reads its line.

    Raises:
        EOFError: from a read, if the text ends within a record or an array.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(raw)
        self._structure = _Structure()

    def _next_piece(self) -> bytes | None:
        piece = self._read(_READ_BYTES)
        if piece:
            return self._structure.lines_of(piece)
        if self._structure.depth or self._structure.in_string:
            raise EOFError("the closing bracket of its last record or array")
        return None
