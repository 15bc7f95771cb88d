"""The content of answers in archives: sent in chunks, compressed in one stream or several, cut, damaged, or never
compressed. What is read is the whole page, or it is told that there is more.
"""

from __future__ import annotations

import gzip
import io
import sys
import time
import types
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from test_reading_pages import PAGE, read
from warcio.recordloader import ArcWarcRecord
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from data_prep.reading.answers import Content, content_of, looks_like_html
from data_prep.reading.documents import DamagedFileError

TEXT = PAGE.format("", "".join(f"{number * 7919 % 100_003} is a number.\n" for number in range(4000)))
PAGE_BYTES = TEXT.encode()


def members(pack: Callable[[bytes], bytes], count: int = 2, between: bytes = b"") -> bytes:
    step = -(-len(PAGE_BYTES) // count)
    return between.join(pack(PAGE_BYTES[at : at + step]) for at in range(0, len(PAGE_BYTES), step))


def first_of(size: int) -> bytes:
    """A page in two members of gzip, the first of them of `size` bytes."""
    overhead = len(gzip.compress(PAGE_BYTES[:16_000], 0)) - 16_000
    first = gzip.compress(PAGE_BYTES[: size - overhead], 0)
    assert len(first) == size
    return first + gzip.compress(PAGE_BYTES[size - overhead :])


def raw_deflate(raw: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(raw) + packer.flush()


def chunks(raw: bytes, size: int, ending: bytes = b"0\r\n\r\n") -> bytes:
    """As it is sent in chunks."""
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    return b"".join(b"%x;name=value\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + ending


def answer(raw: bytes, coding: str = "", **headers: str) -> Content:
    """The content of a record that holds this."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()] + [("Content-Encoding", coding)]
    http = StatusAndHeaders("200 OK", named, protocol="HTTP/1.1")
    stream = io.BytesIO(raw)
    return content_of(ArcWarcRecord("warc", "response", http, stream, http, "text/html", len(raw)), 1 << 26)


WHOLE = {
    "first member of 16383 bytes": ("gzip", first_of((1 << 14) - 1)),
    "of 16384": ("gzip", first_of(1 << 14)),
    "of 16385": ("gzip", first_of((1 << 14) + 1)),
    "many members": ("gzip", members(gzip.compress, 300)),
    "zeros between": ("gzip", members(gzip.compress, between=bytes(8))),
    "many zeros between": ("gzip", members(gzip.compress, between=bytes(40_000))),
    "zeros behind": ("GZIP", gzip.compress(PAGE_BYTES) + bytes(99)),
    "something else behind": ("gzip", gzip.compress(PAGE_BYTES) + b"\r\n<!-- cached -->"),
    "streams of zlib": ("deflate", members(zlib.compress, 3)),
    "zlib, something else behind": ("deflate", zlib.compress(PAGE_BYTES) + b"\r\n"),
    "without the header of zlib": ("deflate", raw_deflate(PAGE_BYTES)),
    "not compressed": ("gzip", PAGE_BYTES),
    "not compressed at all": ("", PAGE_BYTES),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_page_is_read_to_the_end_of_its_last_stream(name: str) -> None:
    coding, raw = WHOLE[name]
    assert answer(raw, coding) == Content(PAGE_BYTES)
    for size in (7, 1000, len(raw)):
        assert answer(chunks(raw, size), coding, Transfer_Encoding="chunked") == Content(PAGE_BYTES)
    # Some crawlers store it put together.
    assert answer(raw, coding, Transfer_Encoding="Chunked") == Content(PAGE_BYTES)


def spoiled(raw: bytes) -> bytes:
    return raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:]


SMALL = [gzip.compress(PAGE_BYTES[:800]), gzip.compress(PAGE_BYTES[800:])]
DAMAGED = {
    "check of the second": ("gzip", SMALL[0] + spoiled(SMALL[1])),
    "check of the only one": ("gzip", spoiled(SMALL[0])),
    "begin of a second": ("gzip", gzip.compress(PAGE_BYTES) + b"\x1f\x8b\x00junkjunk"),
    "cut in the second": ("gzip", SMALL[0] + SMALL[1][:-20]),
    "cut in the header of the second": ("gzip", SMALL[0] + bytes(3) + SMALL[1][:5]),
    "cut behind the first byte of the second": ("gzip", SMALL[0] + b"\x1f"),
    "cut in the header": ("gzip", SMALL[0][:4]),
    "cut in the second of zlib": ("deflate", members(zlib.compress)[:-5]),
    "cut behind two bytes of zlib": ("deflate", b"\x78\x01"),
    "cut without the header of zlib": ("deflate", raw_deflate(PAGE_BYTES)[:-5]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_left_of_a_page_is_not_taken_for_the_whole(name: str) -> None:
    coding, raw = DAMAGED[name]
    problem = f"a page whose {coding} content is cut or damaged"
    assert answer(raw, coding).problem == problem
    assert answer(chunks(raw, 100), coding, Transfer_Encoding="chunked").problem == problem


def test_headers_behind_the_last_chunk_and_no_chunk_at_all() -> None:
    trailers = chunks(PAGE_BYTES, 1000, b"0\r\nExpires: never\r\n\r\n")
    assert answer(trailers, Transfer_Encoding="chunked") == Content(PAGE_BYTES)
    assert answer(b"0\r\n\r\n", "gzip", Transfer_Encoding="chunked") == Content(b"")
    assert answer(b"3\r\nabcdef", Transfer_Encoding="chunked").raw == b"abcdef"


def test_brotli_where_its_package_is_installed(monkeypatch) -> None:
    class Decompressor:
        def __init__(self) -> None:
            self._stream = zlib.decompressobj()

        def process(self, packed: bytes) -> bytes:
            try:
                return self._stream.decompress(packed)
            except zlib.error as error:
                raise ArithmeticError(str(error)) from None

        def is_finished(self) -> bool:
            return self._stream.eof

    package = types.SimpleNamespace(Decompressor=Decompressor, error=ArithmeticError)
    monkeypatch.setitem(sys.modules, "brotli", package)
    packed = zlib.compress(PAGE_BYTES)
    assert answer(packed, "br") == Content(PAGE_BYTES)
    assert answer(chunks(packed, 100), "br", Transfer_Encoding="chunked") == Content(PAGE_BYTES)
    assert answer(PAGE_BYTES, "br") == Content(PAGE_BYTES)
    for damaged in (packed[:-100], spoiled(packed), packed[:1]):
        assert answer(damaged, "br").problem == "a page whose br content is cut or damaged"


@pytest.mark.parametrize("sent", ["chunked", "Chunked", "chunked, chunked", "gzip,chunked"])
def test_what_is_sent_in_chunks_at_last_is_put_together(sent: str) -> None:
    assert answer(chunks(PAGE_BYTES, 5000), Transfer_Encoding=sent) == Content(PAGE_BYTES)
    assert answer(chunks(gzip.compress(PAGE_BYTES), 99), "X-GZip", Transfer_Encoding=sent) == Content(PAGE_BYTES)


def test_little_brotli_does_not_fill_the_memory(monkeypatch) -> None:
    made: list[int] = []

    class Decompressor:
        def process(self, packed: bytes) -> bytes:
            made.append(len(packed) << 10)
            return bytes(made[-1])

        def is_finished(self) -> bool:
            return False

    monkeypatch.setitem(sys.modules, "brotli", types.SimpleNamespace(Decompressor=Decompressor, error=ValueError))
    stream = io.BytesIO(b"packed" * 10_000)
    http = StatusAndHeaders("200 OK", [("Content-Encoding", "br")], protocol="HTTP/1.1")
    record = ArcWarcRecord("warc", "response", http, stream, http, "text/html", 60_000)
    assert len(content_of(record, 1 << 18).raw) == sum(made) < 1 << 20


def test_a_page_that_is_too_long_is_not_read_to_its_end() -> None:
    zeros = gzip.compress(bytes(1 << 20)) * 100
    stream = io.BytesIO(zeros)
    http = StatusAndHeaders("200 OK", [("Content-Encoding", "gzip")], protocol="HTTP/1.1")
    record = ArcWarcRecord("warc", "response", http, stream, http, "text/html", len(zeros))
    assert 1 << 16 < len(content_of(record, 1 << 16).raw) < 1 << 25 and stream.tell() < len(zeros) // 2


def test_answers_in_other_protocols_and_the_end_of_a_file_in_a_chunk(tmp_path: Path) -> None:
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=False)
    for url, raw, media in (("dns:a.b", b"1.2.3.4", "text/dns"), ("ftp://a", PAGE_BYTES, "text/html")):
        writer.write_record(
            writer.create_warc_record(url, "response", payload=io.BytesIO(raw), warc_content_type=media)
        )
    about = [("Content-Type", "text/html"), ("Transfer-Encoding", "chunked")]
    http = StatusAndHeaders("200 OK", about, protocol="HTTP/1.1")
    behind = chunks(PAGE_BYTES, 1000) + b"\r\n"
    writer.write_record(writer.create_warc_record("http://a", "response", io.BytesIO(behind), http_headers=http))
    (tmp_path / "a.warc").write_bytes(target.getvalue())
    texts, counts, _ = read(tmp_path / "a.warc")
    assert texts == [TEXT, TEXT] and counts.malformed == 0
    assert counts.first == [f"{tmp_path}/a.warc, record 0: holds no page but text/dns"]
    (tmp_path / "b.warc").write_bytes(target.getvalue()[:-2000])
    with pytest.raises(DamagedFileError, match="is truncated"):
        read(tmp_path / "b.warc")


def test_the_time_grows_no_faster_than_the_content() -> None:
    def seconds(count: int) -> float:
        raw = gzip.compress(b"x" * 500, 1) * count
        begin = time.process_time()
        assert len(answer(raw, "gzip").raw) == 500 * count
        return time.process_time() - begin

    # The square of it would be 64 times as much.
    assert min(seconds(4000) for _ in range(3)) < 24 * min(seconds(500) for _ in range(3))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"".join(b"<!-- c%d -->\n" % number for number in range(300)) + b"<script>x</script>", False),
        (b"".join(b"<!-- c%d -->\n" % number for number in range(200)) + b"<p>x</p>", True),
        (b" " * 4096 + b"x", False),
        (b"<!--" * 1024, False),
        (b"<?xml" * 800, False),
        (b"<!----><?xml?>" * 290, False),
        (b"<!-- -->" + b"<?xml-->" * 500, False),
        (b'\n<?xml version="1.0"?>\n<!-- a -- > b -->\n<!DOCTYPE  html>', True),
        (b"<!-- a --> b <!-- c --><html>", True),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?><!DOCTYPE html>', True),
        (b"<paragraph>", False),
        (b'{"a": "<p>"}', False),
    ],
)
def test_what_begins_as_a_page_is_seen_at_once(raw: bytes, expected: bool) -> None:
    begin = time.process_time()
    assert looks_like_html(raw) is expected and time.process_time() - begin < 0.05
