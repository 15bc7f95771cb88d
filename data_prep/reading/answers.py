"""What a record in an archive of a crawler holds, as bytes: put together where it was sent in chunks, its compression
undone.

The library's own reader does this block by block: it takes the end of a block for that of the content, and what it
cannot undo for what was never compressed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, tee
from typing import Any, Literal

from data_prep.reading.encodings import valid_bytes

_IS_HTML = re.compile(
    # All up to the last comment is one: what begins in many comments is then looked at once.
    rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^<>]*\?>)*+(?:<!--.*-->(?:\s|<\?xml[^<>]*\?>)*+)?"
    rb"<(?:!doctype\s+html|html|head|body|title|div|p|meta)\b",
    re.I | re.S,
)
_HEAD_BYTES = 1 << 12
# What is small in the archive then does not fill the memory: zlib makes at most a thousand bytes of one.
_PIECE_BYTES = 1 << 14
_BROTLI_BYTES = 1 << 6  # which makes a million of one
_CHUNK_HEADER = re.compile(rb"\s*([0-9a-f]{1,8})\s*(?:;.*)?\r?\n", re.I)
_LONGEST_HEADER_BYTES = 1 << 12
_CODINGS = frozenset({"br", "zstd", "gzip", "x-gzip", "deflate", "compress", "x-compress", "dcb", "dcz"})
# Packages by the compressions that they add to those of the library.
_PACKAGES = {"br": "brotli"}


@dataclass(frozen=True, slots=True)
class Content:
    """What a record holds.

    Attributes:
        raw: its bytes, the compression undone; of what is damaged those before the damage, of what is too long more
            than are allowed.
        problem: what keeps them from being the whole page, for a message; None: nothing.
    """

    raw: bytes
    problem: str | None = None


def looks_like_html(raw: bytes) -> bool:
    """Whether bytes begin as a page does."""
    return _IS_HTML.match(raw[:_HEAD_BYTES]) is not None


def content_of(record: Any, max_bytes: int) -> Content:
    """The content of a record that the library found.

    Reads no further than it takes to see that it has more than `max_bytes` bytes. What is not compressed though its
    header says so is taken as it is.

    Raises:
        EOFError: if the archive ends before the record does, and not only behind what the record holds.
    """
    stream, http = record.raw_stream, record.http_headers
    is_chunked = _header(http, "Transfer-Encoding").rpartition(",")[2].strip() == "chunked"
    pieces = _chunks(stream) if is_chunked else _pieces(stream)
    coding = _header(http, "Content-Encoding")
    # A first piece of some length: of text that was never compressed nothing comes out before it fails.
    pieces = chain([_joined(pieces, _PIECE_BYTES - 1)], pieces)
    fails = False
    for form in _formats(coding, max_bytes):
        pieces, packed = tee(pieces)
        raw, end = _unpacked(form, packed, max_bytes)
        if end == "whole" or len(raw) > max_bytes:
            return Content(raw)
        if raw:
            _see_its_end(stream)
            return Content(raw, _damaged(coding))
        fails = end == "failed"
    raw = _joined(pieces, max_bytes)
    if len(raw) <= max_bytes:
        _see_its_end(stream)
    return Content(raw, _problem_of_stored(raw, coding, fails))


def _header(http: Any, name: str) -> str:
    # Answers in other protocols than HTTP have none.
    return ((http.get_header(name) if http else None) or "").strip().lower()


def _problem_of_stored(raw: bytes, coding: str, fails: bool) -> str | None:
    """What is wrong with content of which nothing could be undone; None: it was never compressed.

    Text that is no HTML shows this if its first bytes are not what they should be (`fails`).
    """
    # Servers also put into this header what is no compression, such as utf-8.
    is_one = not _CODINGS.isdisjoint(re.split(r"[\s,]+", coding))
    if not is_one or not raw.strip() or looks_like_html(raw) or (fails and valid_bytes(raw) == len(raw)):
        return None
    if _formats(coding):
        return _damaged(coding)
    needs = f" ({_PACKAGES[coding]} is not installed)" if coding in _PACKAGES else ""
    return f"a page compressed with {coding}{needs}"


def _damaged(coding: str) -> str:
    return f"a page whose {coding} content is cut or damaged"


def _pieces(stream: Any) -> Iterator[bytes]:
    return iter(partial(stream.read, _PIECE_BYTES), b"")


def _chunks(stream: Any) -> Iterator[bytes]:
    """The content of what was sent in chunks; all as it is where crawlers have put it together but kept the header."""
    while header := stream.readline(_LONGEST_HEADER_BYTES):
        found = _CHUNK_HEADER.fullmatch(header)
        if found is None:
            yield header
            yield from _pieces(stream)
            return
        left = int(found[1], 16)
        if not left:  # headers may follow, which are no content
            return
        while left and (piece := stream.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece
        ending = stream.read(2)
        if ending != b"\r\n":
            yield ending
            yield from _pieces(stream)
            return


def _joined(pieces: Iterator[bytes], max_bytes: int) -> bytes:
    """All, or where that is more than `max_bytes` bytes, some more than these."""
    parts: list[bytes] = []
    size = 0
    while size <= max_bytes and (piece := next(pieces, b"")):
        parts.append(piece)
        size += len(piece)
    return b"".join(parts)


def _see_its_end(stream: Any) -> None:
    for _ in _pieces(stream):
        pass
    # A record that the end of the file cut has bytes outstanding.
    if getattr(stream, "limit", 0) > 0:
        raise EOFError("a complete archive")


@dataclass(frozen=True, slots=True)
class _Format:
    """How streams of a compression are undone.

    Attributes:
        new_stream: makes what undoes one, with the names and errors of zlib.
        begins: whether bytes behind one begin another, of which a cut may have left the first byte alone.
    """

    new_stream: Callable[[], Any]
    begins: Callable[[bytes], bool]


def _formats(coding: str, max_bytes: int = 0) -> tuple[_Format, ...]:
    """What a compression may be, the likelier first; none: nothing here undoes it."""
    if coding in ("gzip", "x-gzip"):
        return (_Format(partial(zlib.decompressobj, 31), _begins_gzip),)
    if coding == "deflate":  # some servers leave out the header of zlib, without which none is seen to follow
        return (
            _Format(partial(zlib.decompressobj, 15), _begins_zlib),
            _Format(partial(zlib.decompressobj, -15), _begins_none),
        )
    if coding == "br":
        with suppress(ImportError):
            import brotli

            return (_Format(partial(_Brotli, brotli, max_bytes), _begins_none),)
    return ()


def _begins_gzip(packed: bytes) -> bool:
    return packed[:2] in (b"\x1f", b"\x1f\x8b")


def _begins_zlib(packed: bytes) -> bool:
    if not packed or packed[0] & 0x8F != 8:
        return False
    return len(packed) == 1 or int.from_bytes(packed[:2], "big") % 31 == 0


def _begins_none(packed: bytes) -> bool:
    return False


class _Brotli:
    unused_data = b""

    def __init__(self, brotli: Any, max_bytes: int) -> None:
        self._stream, self._error, self._max_bytes = brotli.Decompressor(), brotli.error, max_bytes

    def decompress(self, packed: bytes) -> bytes:
        parts: list[bytes] = []
        size = at = 0
        while at < len(packed) and size <= self._max_bytes and not self.eof:
            try:
                parts.append(self._stream.process(packed[at : at + _BROTLI_BYTES]))
            except self._error as error:
                raise zlib.error(str(error)) from None
            size += len(parts[-1])
            at += _BROTLI_BYTES
        return b"".join(parts)

    @property
    def eof(self) -> bool:
        return bool(self._stream.is_finished())


def _unpacked(
    form: _Format, pieces: Iterator[bytes], max_bytes: int
) -> tuple[bytes, Literal["whole", "cut", "failed"]]:
    """What the streams of a compression hold, one after the other, and whether they were read to the end of the last.

    Zero bytes between them are padding. What follows the last and begins no other is nothing.
    """
    parts: list[bytes] = []
    size = 0
    stream, packed = form.new_stream(), next(pieces, b"")
    while packed and size <= max_bytes:
        try:
            parts.append(stream.decompress(packed))
        except zlib.error:
            return b"".join(parts), "failed"
        size += len(parts[-1])
        if not stream.eof:
            packed = next(pieces, b"")
            continue
        packed = stream.unused_data.lstrip(b"\0")
        while len(packed) < 2 and (more := next(pieces, b"")):
            packed = (packed + more).lstrip(b"\0")
        if not form.begins(packed):
            return b"".join(parts), "whole"
        stream = form.new_stream()
    return b"".join(parts), "cut"
