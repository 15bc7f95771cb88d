"""Web pages, alone and in archives of crawlers: their declared encodings, and what is no page."""

from __future__ import annotations

import gzip
import io
import random
import sys
import zlib
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.documents import DamagedFileError, ReadCounts
from data_prep.reading.inputs import find_inputs, work_units
from data_prep.reading.readers import read_batches
from data_prep.reading.records import RECORDS

PAGE = "<html><head>{}<title>t</title></head><body><p>{}</p></body></html>"
LATIN = "Café déjà vu naïve."
JAPANESE = "日本語の文章をここに書きます。もう少し長い文章。"


def archive(*pages: tuple[bytes, str | None], packed: bool = True) -> bytes:
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=packed)
    for number, (raw, content_type) in enumerate(pages):
        headers = [("Content-Type", content_type)] if content_type else []
        http = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
        writer.write_record(
            writer.create_warc_record(f"http://a/{number}", "response", payload=io.BytesIO(raw), http_headers=http)
        )
        writer.write_record(writer.create_warc_record(f"http://a/{number}", "metadata", payload=io.BytesIO(b"x: y")))
    return target.getvalue()


def read(path: Path, **settings: object) -> tuple[list[str], ReadCounts, list[dict]]:
    config = SourceConfig.model_validate({"input": str(path), **settings})
    counts, texts, records = ReadCounts(), [], []
    for unit in work_units(find_inputs(config, pages=True).files, config):
        for batch in read_batches(unit, config, counts, RECORDS):
            texts += batch.texts
            records += batch.metadata or []
    return texts, counts, records


def test_declared_encodings_are_believed_and_damage_is_replaced(tmp_path: Path) -> None:
    meta = '<meta charset="{}">'
    pages = [
        (PAGE.format("", LATIN).encode("latin-1"), "text/html; charset=ISO-8859-1"),
        (PAGE.format(meta.format("latin-1"), LATIN).encode("latin-1"), "text/html"),
        (PAGE.format("", JAPANESE).encode().replace("章".encode(), "章".encode()[:2], 1), "text/html; charset=utf-8"),
        (PAGE.format(meta.format("gbk"), "中文网页，内容。").encode("gbk"), "text/html"),
        (PAGE.format("", JAPANESE).encode("shift_jis"), "text/html"),
        (PAGE.format("", "Привет, мир, это страница").encode("koi8-r"), "text/html; charset=koi8-r"),
    ]
    (tmp_path / "a.warc.gz").write_bytes(archive(*pages))
    texts, counts, records = read(tmp_path / "a.warc.gz")
    assert len(texts) == 6 and counts.records == 0 and counts.replaced == 1
    expected = (LATIN, LATIN, "日本語の文\ufffdをここに", "中文网页，内容。", JAPANESE, "Привет, мир, это страница")
    for text, part in zip(texts, expected, strict=True):
        assert part in text
    assert [record["url"] for record in records] == [f"http://a/{number}" for number in range(6)]
    assert all(record["id"].startswith("<urn:uuid:") and record["date"] for record in records)


def test_what_is_no_page_is_counted_by_its_kind(tmp_path: Path) -> None:
    pages = [
        (PAGE.format("", "page").encode(), "text/html"),
        (b"\x89PNG\r\n", "image/png"),
        (b"{}", "application/json"),
        (PAGE.format("", "no header").encode(), None),
        (bytes(range(128, 256)) * 40, "text/html"),
        (b" ", "text/html"),
    ]
    (tmp_path / "a.warc").write_bytes(archive(*pages, packed=False))
    texts, counts, _ = read(tmp_path / "a.warc")
    assert [("page" in text, "no header" in text) for text in texts] == [(True, False), (False, True)]
    assert (counts.other_content, counts.malformed) == (2, 2)
    assert counts.first == [
        f"{tmp_path}/a.warc, record 2: holds no page but image/png",
        f"{tmp_path}/a.warc, record 4: holds no page but application/json",
        f"{tmp_path}/a.warc, record 8: is in no encoding that is known",
        f"{tmp_path}/a.warc, record 10: holds nothing",
    ]


def test_resources_are_pages_and_media_types_are_written_in_many_ways(tmp_path: Path) -> None:
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=True)
    latin = PAGE.format("", LATIN).encode("latin-1")

    def write(kind: str, raw: bytes, content_type: str, **headers: str) -> None:
        http = (
            StatusAndHeaders("200 OK", [("Content-Type", "x/y; charset=latin-1")], protocol="HTTP/1.1")
            if headers
            else None
        )
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        record = writer.create_warc_record(
            "http://a/b",
            kind,
            payload=io.BytesIO(raw),
            warc_content_type=content_type,
            warc_headers_dict=given,
            http_headers=http,
        )
        writer.write_record(record)

    write("resource", latin, "text/html; charset=latin-1")
    write("resource", b"\x89PNG", "image/png")
    for media in ("TEXT/HTML", "text/html; charset=latin-1"):
        write("response", latin, "application/http", WARC_Identified_Payload_Type=media)
    (tmp_path / "a.warc.gz").write_bytes(target.getvalue())
    texts, counts, _ = read(tmp_path / "a.warc.gz")
    assert texts == [PAGE.format("", LATIN)] * 3
    assert counts.first == [f"{tmp_path}/a.warc.gz, record 1: holds no page but image/png"]


def write_answers(path: Path, codings: list[tuple[str, bytes]]) -> None:
    """An archive of answers, each the coding that its header names and its bytes."""
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=True)
    for coding, raw in codings:
        about = [("Content-Type", "text/html"), ("Content-Encoding", coding)]
        http = StatusAndHeaders("200 OK", about, protocol="HTTP/1.1")
        writer.write_record(writer.create_warc_record("http://a", "response", io.BytesIO(raw), http_headers=http))
    path.write_bytes(target.getvalue())


def test_a_page_that_stays_compressed_is_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    page, packed = PAGE.format("", "page").encode(), random.Random(5).randbytes(2000)
    codings = [("br", packed), ("x-zip, Zstd", packed), ("br", page), ("utf-8", page), ("gzip", gzip.compress(page))]
    write_answers(tmp_path / "a.warc.gz", codings)
    texts, counts, _ = read(tmp_path / "a.warc.gz")
    assert texts == [page.decode()] * 3 and counts.malformed == 0
    shown = "a page compressed with"
    assert [found.partition(": holds ")[2] for found in counts.first] == [
        f"{shown} br (brotli is not installed)",
        f"{shown} x-zip, zstd",
    ]


@pytest.mark.parametrize("lines", [40, 40_000])
def test_a_page_whose_compression_cannot_be_undone_is_counted(tmp_path: Path, lines: int) -> None:
    body = "".join(f"{number * 7919 % 100_003} is a number.\n" for number in range(lines))
    page = PAGE.format("", body).encode()
    packed, garbage = gzip.compress(page), random.Random(5).randbytes(3000)
    deflate = zlib.compress(page)
    middle = len(packed) // 2
    spoiled = packed[:middle] + bytes(100) + packed[middle + 100 :]
    codings = [("gzip", packed), ("gzip", packed[: len(packed) // 3]), ("gzip", garbage), ("gzip", spoiled)]
    codings += [("deflate", deflate), ("deflate", deflate[: len(deflate) // 3]), ("deflate", garbage)]
    codings += [("gzip", gzip.compress(page[:500]) + gzip.compress(page[500:]) + bytes(99))]
    codings += [("gzip", page), ("gzip", "plain text, zwölf".encode())]
    write_answers(tmp_path / "a.warc.gz", codings)
    texts, counts, _ = read(tmp_path / "a.warc.gz", max_document_bytes=1 << 24)
    assert texts == [page.decode()] * 4 + ["plain text, zwölf"]
    assert (counts.malformed, counts.other_content) == (0, 5)
    kinds = [found.partition(": holds a page whose ")[2] for found in counts.first]
    assert kinds == ["gzip content is cut or damaged"] * 3 + ["deflate content is cut or damaged"] * 2


def test_a_page_that_is_another_file_is_counted_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"\x89PNG\r\n" + random.Random(5).randbytes(2000))
    (tmp_path / "b.html").write_bytes(PAGE.format("", "page").encode())
    texts, counts, _ = read(tmp_path)
    assert len(texts) == 1 and (counts.malformed, counts.other_content) == (0, 1)
    assert counts.first == [f"{tmp_path}/a.html: holds no page but an image"]


def test_text_that_an_archive_holds_already(tmp_path: Path) -> None:
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=True)
    for number in range(20):
        writer.write_record(
            writer.create_warc_record(
                f"http://a/{number}",
                "conversion",
                payload=io.BytesIO(f"Text <b>{number}</b>, zwölf.\n".encode()),
                warc_content_type="text/plain",
            )
        )
    (tmp_path / "a.warc.wet.gz").write_bytes(target.getvalue())
    texts, counts, _ = read(tmp_path / "a.warc.wet.gz")
    assert texts == [f"Text <b>{number}</b>, zwölf.\n" for number in range(20)] and counts.records == 0


@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_that_breaks_off_is_damaged(tmp_path: Path, packed: bool) -> None:
    whole = archive(*[(PAGE.format("", "x" * 5000).encode(), "text/html")] * 5, packed=packed)
    ending = "warc.gz" if packed else "warc"
    (tmp_path / f"a.{ending}").write_bytes(whole[:-2000] if not packed else whole[: len(whole) - 400])
    _, counts, _ = read(tmp_path / f"a.{ending}", damaged_files="skip")
    assert counts.damaged_files == 1
    with pytest.raises(DamagedFileError, match="is truncated"):
        read(tmp_path / f"a.{ending}")
    (tmp_path / "b.warc").write_bytes(b"no archive\n" * 50)
    with pytest.raises(DamagedFileError, match="is no archive of web pages"):
        read(tmp_path / "b.warc")


def test_an_answer_without_an_address_costs_no_other(tmp_path: Path) -> None:
    whole = archive(*[(PAGE.format("", LATIN).encode(), "text/html")] * 3, packed=False)
    (tmp_path / "a.warc").write_bytes(whole.replace(b"WARC-Target-URI: http://a/1\r\n", b"", 1))
    texts, counts, _ = read(tmp_path / "a.warc")
    assert texts == [PAGE.format("", LATIN)] * 2 and counts.other_content == 1
    assert "no page but application/http" in counts.first[0]


def test_html_files(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(PAGE.format('<meta charset="big5">', "繁體中文的網頁").encode("big5"))
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(PAGE.format("", LATIN).encode("cp1252")))
    texts, counts, _ = read(tmp_path)
    assert "繁體中文的網頁" in texts[0] and counts.records == 0 and len(texts) == 2
    assert LATIN in read(tmp_path / "b.html.gz", encoding="cp1252")[0][0]
    with pytest.raises(DataError, match="has pages of many encodings; encoding=gbk cannot be meant for all"):
        (tmp_path / "a.warc").write_bytes(archive((b"<html>", "text/html")))
        read(tmp_path / "a.warc", encoding="gbk")
