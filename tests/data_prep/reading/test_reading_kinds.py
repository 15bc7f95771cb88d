"""Files of every ending, without one, in archives and from pipes are read by both commands; what is not, is told."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from configs.errors import DataError
from configs.load import load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import CleaningCounts
from data_prep.cleaning.plan import make_plan
from data_prep.cleaning.source_reader import SourceReader
from data_prep.config import SourceConfig
from data_prep.reading.documents import DamagedFileError, ReadCounts
from data_prep.reading.inputs import find_files, find_inputs, work_units
from data_prep.reading.readers import read_documents


def by_tokenize(*patterns: object, **settings: object) -> list[str]:
    """The texts that `tokenize` and `train-tokenizer` read."""
    config = SourceConfig.model_validate({"input": list(map(str, patterns)), **settings})
    units = work_units(find_files(config), config)
    return [document.text for unit in units for document in read_documents(unit, config, ReadCounts())]


def by_clean(*patterns: object, **settings: object) -> list[str]:
    """The texts that `clean` reads."""
    given = [f"sources.s.{name}={json.dumps(value)}" for name, value in settings.items()]
    inputs = f"sources.s.input={json.dumps(list(map(str, patterns)))}"
    config = load_config(CleanConfig, None, ["output=/nowhere/o", "stages=[]", "tasks=1", inputs, *given])
    parts = make_plan(config).parts
    counts = CleaningCounts().stage("read")
    return [document.text for part in parts for document in SourceReader(part, config, counts).run(None, 0, 1)]


READERS = [by_tokenize, by_clean]


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return target.getvalue()


def parquet(*texts: str) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"text": list(texts)}), target)
    return target.getvalue()


@pytest.mark.parametrize("read", READERS)
def test_all_files_of_a_directory_are_read_or_told(tmp_path: Path, capsys, read) -> None:
    made = {
        "a.jsonl.zstd": zstandard.compress(lines("a")),
        "b.jsonl.gzip": gzip.compress(lines("b")),
        "c.jsonlines": lines("c"),
        "d.tar": tar_of({"in/one.jsonl": lines("d1", "d2"), "in/two.txt": b"d3", "in/x.jpg": b"\xff\xd8"}),
        "e.zip": zip_of({"one.csv": b"text,n\ne1,1\n", "deep/two.jsonl.gz": gzip.compress(lines("e2"))}),
        "f.tar.gz": tar_of({"1.jsonl": lines("f1"), "2.parquet": parquet("f2"), "3.jsonl": lines("f3")}, "w:gz"),
        "part-00000": lines("g"),
        "part-00001": b"",
        "part-00002": gzip.compress(lines("h")),
        "part-r-00003": b"i, as text",
        "part-00004-c000": parquet("j"),
        "k.jsonl?download=true": lines("k"),
        "l.jsonl": lines("l"),
        "notes.docx": b"x",
        "sums.md5": b"x",
        "_SUCCESS": b"",
        "dataset_infos.json": json.dumps({"default": {"features": {}}}, indent=1).encode(),
        "README.md": b"---\nlicense: mit\n---\n",
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    texts = ["a", "b", "c", "d1", "d2", "d3", "e1", "e2", "f1", "f2", "f3", "g", "h", "i, as text", "j", "k", "l"]
    assert sorted(read(tmp_path)) == texts
    said = capsys.readouterr().err
    assert f"not read in {tmp_path}: 7 files that hold no text or tell of others: " in said
    assert all(part in said for part in ("1 .jpg", "1 .docx", "1 .md5")), said


@pytest.mark.parametrize("read", READERS)
def test_parts_without_a_byte_are_empty_files(tmp_path: Path, capsys, read) -> None:
    for name, data in (("part-00000", lines("one")), ("part-00001", b""), ("part-r-00002.gz", b"")):
        (tmp_path / name).write_bytes(data)
    assert read(tmp_path / "part-*") == ["one"]
    assert f"empty, passed over: {tmp_path}/part-00001 and 1 more" in capsys.readouterr().err


def test_a_part_without_a_byte_alone_is_told(tmp_path: Path) -> None:
    (tmp_path / "part-00001").write_bytes(b"")
    with pytest.raises(DataError, match="part-00001: is empty"):
        by_tokenize(tmp_path / "part-00001")


@pytest.mark.parametrize("read", READERS)
def test_what_a_format_names_is_read_whatever_its_ending(tmp_path: Path, read) -> None:
    (tmp_path / "a.data").write_bytes(lines("one"))
    with pytest.raises(DataError, match="is of an unknown kind"):
        read(tmp_path / "a.data")
    assert read(tmp_path / "a.data", format="jsonl") == ["one"]
    (tmp_path / "t.tsv").write_text("text\tn\ntwo\t1\n")
    assert read(tmp_path / "t.tsv", format="csv") == ["two"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.jsonl").write_bytes(lines("three"))
    (tmp_path / "more" / "c.txt").write_text("other")
    assert read(tmp_path / "more", format="jsonl") == ["three"]
    members = {"d.jsonl": lines("four"), "e.txt": b"other", "part-00000": lines("five"), "inner.tar": tar_of({})}
    (tmp_path / "more" / "packed.tar").write_bytes(tar_of(members))
    assert read(tmp_path / "more", format="jsonl") == ["three", "four", "five"]
    assert read(tmp_path / "more" / "packed.tar", format="jsonl") == ["four", "five"]


@pytest.mark.parametrize("read", READERS)
def test_a_format_finds_files_of_unknown_endings_by_their_first_bytes(tmp_path: Path, read) -> None:
    made = {
        "a.dat": lines("one"),
        "b.log": gzip.compress(lines("two")),
        "c.txt": lines("other"),
        "d.md5": b"d41d8cd9 a.dat\n",
        "e.part": gzip.compress(lines("cut"))[:9],
        ".hidden.dat": lines("hidden"),
        "f.dat": b"\x89PNG\r\n",
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    assert read(tmp_path, format="jsonl") == ["one", "two"]
    with pytest.raises(DataError, match=r"holds no file of a known kind(.|\n)*a pattern such as"):
        read(tmp_path, format="csv")
    (tmp_path / "part-00000").write_bytes(b"text,n\nthree,1\n")
    assert read(tmp_path, format="csv") == ["three"]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("packed", [tar_of, zip_of, lambda members: tar_of(members, "w:gz")], ids=["tar", "zip", "tgz"])
def test_members_of_archives_in_any_order_and_amount(tmp_path: Path, read, packed) -> None:
    members = {f"{name}/{number}.jsonl": lines(f"{name}{number}" * 2000) for name in "ab" for number in range(40)}
    ending = {tar_of: "tar", zip_of: "zip"}.get(packed, "tgz")
    path = tmp_path / f"all.{ending}"
    path.write_bytes(packed(members))
    assert sorted(read(path)) == sorted(f"{name}{number}" * 2000 for name in "ab" for number in range(40))
    config = SourceConfig(input=[str(path)])
    files = find_files(config)
    assert [file.path for file in files] == [f"{path}!/{name}" for name in members]
    for file in reversed(files[-3:]):
        (unit,) = work_units([file], config)
        (document,) = read_documents(unit, config, ReadCounts())
        assert document.text == f"b{unit.name.removesuffix('.jsonl')}" * 2000


@pytest.mark.parametrize("packed", [tar_of, zip_of, lambda members: tar_of(members, "w:gz")], ids=["tar", "zip", "tgz"])
def test_a_damaged_archive_is_told(tmp_path: Path, packed) -> None:
    ending = {tar_of: "tar", zip_of: "zip"}.get(packed, "tgz")
    whole = packed({f"{number}.jsonl": lines(os.urandom(3000).hex()) for number in range(20)})
    path = tmp_path / f"a.{ending}"
    path.write_bytes(whole[: len(whole) // 2])
    problem = "is no whole archive" if ending == "zip" else r"is truncated\n  expected: a complete archive"
    with pytest.raises(DamagedFileError, match=rf"a\.{ending}: {problem}"):
        by_tokenize(path)
    path.write_bytes(b"no archive at all, but text" * 100)
    with pytest.raises(DamagedFileError):
        by_tokenize(path)


def test_clean_reads_saved_json_tables_and_encodings_as_tokenize_does(tmp_path: Path) -> None:
    (tmp_path / "array.json").write_text(json.dumps([{"text": "one"}, {"text": "two"}], indent=2))
    (tmp_path / "python.jsonl").write_bytes(b'{"text":"three","score":NaN}\n{"text":"cut \\ud83d end"}\n')
    rows = [f"{n}\t{'x' if n % 9 else chr(34)}{n}\n" for n in range(99)]
    (tmp_path / "quotes.tsv").write_text("id\ttext\n" + "".join(rows))
    (tmp_path / "long.jsonl.zst").write_bytes(
        zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
        ).compress(lines("four"))
    )
    for read in READERS:
        texts = read(tmp_path)
        assert len(texts) == 2 + 2 + 99 + 1 and "cut \ufffd end" in texts and '"9' in texts
    (tmp_path / "zh.jsonl").write_bytes('{"text": "你好，世界"}\n'.encode("gb18030"))
    for read in READERS:
        assert read(tmp_path / "zh.jsonl", encoding="gb18030") == ["你好，世界"]
    (tmp_path / "deep.jsonl").write_text('{"meta": {"text": "five"}, "m": [{"role": "user", "content": "six"}]}\n')
    for read in READERS:
        assert read(tmp_path / "deep.jsonl", text_field=["meta.text", "m"]) == ["five\n\nuser: six"]
    (tmp_path / "reviews.txt").write_text("good\nbad\n")
    for read in READERS:
        assert read(tmp_path / "reviews.txt", text_documents="line") == ["good", "bad"]


def test_the_query_of_an_address_is_no_part_of_the_ending(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://hub/x.jsonl.gz?download=true", "wb") as stream:
        stream.write(gzip.compress(lines("from afar")))
    assert by_tokenize("memory://hub/x.jsonl.gz?download=true") == ["from afar"]


@pytest.mark.parametrize("read", READERS)
def test_a_name_that_is_not_utf8_is_one_message(tmp_path: Path, read) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(lines("one"))
    with pytest.raises(DataError, match=r"caf\\xe9\.jsonl: its name is not UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_the_first_bytes_are_looked_at_in_the_encoding(tmp_path: Path, read, encoding) -> None:
    (tmp_path / "part-00000").write_bytes(lines("one", "two").decode().encode(encoding))
    assert read(tmp_path / "part-00000", encoding=encoding) == ["one", "two"]
    (tmp_path / "part-00000").write_bytes("語".encode(encoding))
    assert read(tmp_path / "part-00000", encoding=encoding) == ["語"]


def test_a_pipe_in_an_encoding_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "wide")
    writer = threading.Thread(target=(tmp_path / "wide").write_bytes, args=[lines("one").decode().encode("utf-16")])
    writer.start()
    assert by_tokenize(tmp_path / "wide", encoding="utf-16") == ["one"]
    writer.join()


def test_a_pipe_with_a_name_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        (tmp_path / "pipe").write_bytes(lines("one", "two"))

    writer = threading.Thread(target=write)
    writer.start()
    assert by_tokenize(tmp_path / "pipe") == ["one", "two"]
    writer.join()


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (lines("one", "two"), ["one", "two"]),
        pytest.param(gzip.compress(lines("one")), ["one"], marks=pytest.mark.slow),
        pytest.param(parquet("one", "two"), ["one", "two"], marks=pytest.mark.slow),
        pytest.param(b"a text\nof two lines\n", ["a text\nof two lines\n"], marks=pytest.mark.slow),
    ],
    ids=["lines", "packed", "parquet", "text"],
)
def test_standard_input(data: bytes, texts: list[str]) -> None:
    code = "import json; from tests.data_prep.reading.test_reading_kinds import by_tokenize as read"
    code += "; print(json.dumps(read('-')))"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert json.loads(done.stdout) == texts
    place = done.stderr.decode().split("into ")[1].split(" ")[0]
    assert not Path(place).parent.exists()


@pytest.mark.slow
def test_standard_input_without_a_byte_is_told() -> None:
    code = "from tests.data_prep.reading.test_reading_kinds import by_tokenize; by_tokenize('-')"
    done = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True, check=False)
    assert b"standard input: is empty" in done.stderr


def test_pages_are_for_clean(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.html").write_text("<html><p>page</p></html>")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(DataError, match=r"a\.html: is a web page.*\n  expected: text; `clean` takes it out"):
        by_tokenize(tmp_path / "a.html")
    assert by_tokenize(tmp_path) == ["text"] and "1 .html" in capsys.readouterr().err
    found = find_inputs(SourceConfig(input=[str(tmp_path)]), pages=True)
    assert [file.kind for file in found.files] == ["html", "text"] and found.unread == []
