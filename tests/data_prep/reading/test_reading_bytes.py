"""From the bytes of a file to text: compression under any name, encodings, line breaks, what is told of the others."""

import bz2
import functools
import gzip
import io
import lzma
import zipfile

import orjson
import pytest
import zstandard
from test_reading_encodings import CHINESE, JAPANESE, WRITTEN
from test_reading_formats import read

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.decompression import DecompressedStream, content_shown
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units

TEXTS = [f"text {n}" for n in range(3000)]
LINES = b"".join(orjson.dumps({"text": text}) + b"\n" for text in TEXTS)
PACKED = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
}


def zstd_of_window(log: int, data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log, enable_ldm=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.xz"])
def test_a_file_is_read_as_it_is_compressed_whatever_its_name(tmp_path, compression, name):
    (tmp_path / name).write_bytes(PACKED[compression](LINES))
    assert read(tmp_path / name, work_unit_bytes=100) == TEXTS
    config = SourceConfig(input=[str(tmp_path)], work_unit_bytes=100)
    assert len(work_units(find_files(config), config)) == 1


@pytest.mark.parametrize("compression", PACKED)
def test_streams_one_after_the_other_with_padding(compression):
    pack = PACKED[compression]
    half = len(LINES) // 2
    data = pack(LINES[:half]) + bytes(8) + pack(b"") + pack(LINES[half:])
    for padding in (b"", bytes(4), bytes(512)):
        assert DecompressedStream(io.BytesIO(data + padding), compression).read() == LINES
    for cut in (data[:-3], data[: len(data) // 3]):
        with pytest.raises(EOFError):
            DecompressedStream(io.BytesIO(cut), compression).read()
    with pytest.raises(OSError, match=f"is not valid {compression}"):
        DecompressedStream(io.BytesIO(data + b"something else"), compression).read()


@pytest.mark.parametrize(("share", "least"), [(1, len(TEXTS)), (0.5, 1000)], ids=["sum", "middle"])
def test_what_lies_before_damage_in_gzip_is_read(tmp_path, share, least):
    packed = bytearray(gzip.compress(LINES))
    at = int(share * len(packed)) - 8  # at the end: the sum over the content
    packed[at : at + 8] = b"\xff" * 8
    (tmp_path / "t.jsonl.gz").write_bytes(packed)
    texts = read(tmp_path / "t.jsonl.gz", damaged_files="skip", max_malformed_share=1)
    assert len(texts) >= least and texts[:least] == TEXTS[:least]
    with pytest.raises(DataError, match="is not valid gzip: "):
        read(tmp_path / "t.jsonl.gz", max_malformed_share=1)


def test_zstandard_of_large_windows(tmp_path):
    for log in (28, 31):
        (tmp_path / "t.jsonl.zst").write_bytes(zstd_of_window(log, LINES))
        assert read(tmp_path / "t.jsonl.zst") == TEXTS
    with pytest.raises(DataError, match="window is larger than max_window_bytes = 1024"):
        read(tmp_path / "t.jsonl.zst", max_window_bytes=1024)


@pytest.mark.parametrize("compression", ["xz", "bzip2"])
def test_what_is_small_in_the_file_does_not_fill_the_memory(compression):
    stream = DecompressedStream(io.BytesIO(PACKED[compression](bytes(20_000_000))), compression)
    sizes = []
    while piece := stream.read1():
        sizes.append(len(piece))
    assert sum(sizes) == 20_000_000 and max(sizes) <= 1 << 18


def test_what_is_no_text_is_named(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        # A fixed date: the archive's bytes, and the lines that they look like, are the same in every run.
        target.writestr(zipfile.ZipInfo("t.txt"), CHINESE * 20, zipfile.ZIP_DEFLATED)
    (tmp_path / "t.txt").write_bytes(archive.getvalue())
    with pytest.raises(DataError, match=r"t.txt, line \d+: is not UTF-8: .*; the file looks like a ZIP archive"):
        read(tmp_path / "t.txt", malformed="stop")
    (tmp_path / "t.parquet").write_bytes(archive.getvalue())
    with pytest.raises(DataError, match=r"t.parquet: cannot be read: .*; it looks like a ZIP archive"):
        read(tmp_path / "t.parquet")
    assert content_shown(b"%PDF-1.7") == "a PDF file" and content_shown(b"plain text") is None
    assert content_shown(b"BZh is how a text may begin") is None


@pytest.mark.parametrize(("text", "written", "guessed"), WRITTEN)
@pytest.mark.parametrize("kind", ["file", "line", "paragraph", "jsonl", "json", "gz"])
def test_every_reader_reads_every_encoding(tmp_path, text, written, guessed, kind):
    texts = [text] if kind == "file" else text.split("\n") * 3
    content = {
        "file": text,
        "line": "\n".join(texts),
        "paragraph": "\n\n".join(texts),
        "json": orjson.dumps([{"text": t} for t in texts], option=orjson.OPT_INDENT_2).decode(),
    }.get(kind) or "\n".join(orjson.dumps({"text": t}).decode() for t in texts)
    name = {"jsonl": "t.jsonl", "json": "t.json", "gz": "t.jsonl.gz"}.get(kind, "t.txt")
    raw = content.encode(written)
    (tmp_path / name).write_bytes(gzip.compress(raw) if kind == "gz" else raw)
    settings = {"text_documents": kind} if kind in ("file", "line", "paragraph") else {}
    for unit_bytes in (None, 7):
        assert read(tmp_path / name, encoding=written, work_unit_bytes=unit_bytes, **settings) == texts
    with pytest.raises(DataError, match=f"looks like .*: encoding={guessed} reads it"):
        read(tmp_path / name, malformed="stop", **settings)


def test_a_letter_that_is_none_costs_its_record_and_is_named(tmp_path):
    lines = [orjson.dumps({"text": line}).decode().encode("gbk") for line in CHINESE.split("\n")]
    (tmp_path / "t.jsonl").write_bytes(lines[0] + b"\n" + lines[1].replace(b'"}', b'\xff"}') + b"\n" + lines[1] + b"\n")
    counts = ReadCounts()
    assert read(tmp_path / "t.jsonl", encoding="gbk", counts=counts) == CHINESE.split("\n")
    assert counts.malformed == 1 and "is not gbk: byte 0xff at byte" in counts.first[0]
    with pytest.raises(DataError, match=r"t.jsonl, line 2: is not gbk: byte 0xff"):
        read(tmp_path / "t.jsonl", encoding="gbk", malformed="stop")
    # One bad line in UTF-8 is no other encoding.
    (tmp_path / "t.jsonl").write_bytes(orjson.dumps({"text": JAPANESE}) + b'\n{"text": "\xff"}\n')
    counts = ReadCounts()
    assert read(tmp_path / "t.jsonl", counts=counts) == [JAPANESE]
    assert counts.first[0].endswith("is not UTF-8: byte 0xff at byte 11 of the line")


def test_line_breaks_of_windows_are_line_feeds(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"one\r\ntwo\r\n\r\nthree\rfour\r\n")
    documents = functools.partial(read, tmp_path / "t.txt")
    assert documents() == ["one\ntwo\n\nthree\nfour\n"]
    assert documents(text_documents="line") == ["one", "two", "", "three\rfour"]
    assert documents(text_documents="paragraph") == ["one\ntwo", "three\rfour"]
    # What stands in a field is no line break of the file.
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "one\\r\\ntwo"}\r\n')
    assert read(tmp_path / "t.jsonl") == ["one\r\ntwo"]


def test_a_file_that_is_too_long_names_how_to_divide_it(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"line\n" * 100)
    for mode, parts in (("file", "line or paragraph"), ("paragraph", "line")):
        counts = ReadCounts()
        assert read(tmp_path / "t.txt", counts=counts, max_document_bytes=99, text_documents=mode) == []
        assert counts.first[0].endswith(f"max_document_bytes = 99; text_documents={parts} makes documents of its parts")
    with pytest.raises(DataError, match="text_documents=line or paragraph"):
        read(tmp_path / "t.txt", max_document_bytes=99, malformed="stop")


def test_byte_order_marks_of_joined_files_are_no_text(tmp_path):
    mark = "\ufeff".encode()
    (tmp_path / "t.txt").write_bytes(mark + b"one\ntwo\n" + mark + b"three\r\nfo" + mark + b"ur\n")
    assert read(tmp_path / "t.txt", text_documents="line") == ["one", "two", "three", "fo\ufeffur"]
