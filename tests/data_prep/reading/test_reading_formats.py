"""Files of every kind, wherever they lie, and the ways in which they hurt."""

import bz2
import csv
import functools
import gzip
import http.server
import io
import lzma
import threading

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_prep_helpers import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading import lines
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.readers import read_batches, read_documents

TEXTS = ["one", "two\nlines", "drei ü 日本 \u2028 x", '  "quoted", indented\t']


def read(*paths, counts=None, **settings) -> list[str]:
    config = SourceConfig(input=[str(path) for path in paths], **settings)
    counts = counts if counts is not None else ReadCounts()
    left_out: list[DataError] = []
    units = work_units(find_files(config), config, left_out)
    counts.damaged_files += len(left_out)
    return [text for unit in units for batch in read_batches(unit, config, counts) for text in batch.texts]


def separated(texts: list[str], delimiter: str = ",") -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerows([["id", "text"], *([n, text] for n, text in enumerate(texts))])
    return stream.getvalue().encode()


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".bz2", bz2.compress), (".gz", gzip.compress)])
def test_every_compression(tmp_path, suffix, pack):
    plain = write_jsonl(tmp_path / "plain", TEXTS).read_bytes()
    (tmp_path / f"t.jsonl{suffix}").write_bytes(pack(plain))
    assert read(tmp_path / f"t.jsonl{suffix}") == TEXTS
    (tmp_path / f"cut.jsonl{suffix}").write_bytes(pack(plain)[:-12])
    with pytest.raises(DataError, match=f"cut.jsonl{suffix}: (is truncated|is not valid|cannot be read)"):
        read(tmp_path / f"cut.jsonl{suffix}")


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t"), ("csv.gz", ",")])
def test_separated_values(tmp_path, suffix, delimiter):
    plain = separated(TEXTS, delimiter)
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(gzip.compress(plain) if suffix.endswith(".gz") else plain)
    assert read(path, quoting="double") == TEXTS
    config = SourceConfig(input=[str(path)], quoting="double")
    documents = [
        d for unit in work_units(find_files(config), config) for d in read_documents(unit, config, ReadCounts())
    ]
    assert [(d.id, d.metadata["text"]) for d in documents] == [(str(n), text) for n, text in enumerate(TEXTS)]
    with pytest.raises(DataError, match=r"has no column 'txt', only id, text(.|\n)*did you mean: text"):
        read(path, text_field="txt")


def test_rows_that_are_malformed(tmp_path):
    good = separated(["a", "b"])
    (tmp_path / "t.csv").write_bytes(good + b"3,x,y\n4,caf\xe9\n5,c\n")
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts) == ["a", "b", "c"]
    assert counts.malformed == 2
    assert counts.first[0].endswith("t.csv, line 4: has 3 fields")
    assert counts.first[1].endswith("t.csv, line 5: is not UTF-8: byte 0xe9 at byte 4 of its field")
    with pytest.raises(DataError, match=r"t.csv, line 4: has 3 fields"):
        read(tmp_path / "t.csv", malformed="stop")


@pytest.mark.parametrize("ending", ["", "\n"])
@pytest.mark.parametrize(("limit", "problem"), [(None, "does not end"), (1000, "is longer than 1000 characters")])
def test_a_quote_that_never_ends(tmp_path, limit, problem, ending):
    settings = {} if limit is None else {"max_document_bytes": limit}
    rest = "4,all the rest\n" * 100 + "5,the last" + ending
    (tmp_path / "t.csv").write_bytes(separated(["a", "b"]) + f'3,"swallows\n{rest}'.encode())
    with pytest.raises(DataError, match=rf"t.csv, line 4: a (quoted )?field that begins here {problem}"):
        read(tmp_path / "t.csv", **settings)
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts, damaged_files="skip", **settings) == ["a", "b"]
    assert counts.damaged_files == 1


def test_text_after_a_closing_quote_is_no_text(tmp_path):
    """Where quotes are mere letters, rows would be joined and letters lost, and nobody told."""
    (tmp_path / "t.tsv").write_text('id\ttext\n1\t"hello\n2\tworld\n3\t"bye\n4\tlast\n')
    (tmp_path / "t.csv").write_text('text,n\n"un"closed,6\nfine,7\n')
    for name, kept, line, lost in (("t.tsv", ["last"], 2, 3), ("t.csv", ["fine"], 2, 1)):
        counts = ReadCounts()
        assert read(tmp_path / name, counts=counts, quoting="double") == kept
        assert counts.malformed == lost
        assert counts.first[0].endswith(
            f"{name}, line {line}: has text after a closing quote" + (": 3 lines" if lost == 3 else "")
        )


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_the_longest_document_is_measured_in_bytes(tmp_path, name):
    texts = ["日" * 90, "x" * 90]
    if name == "t.csv":
        (tmp_path / name).write_text("text\n" + "\n".join(texts) + "\n")
    else:
        pq.write_table(pa.table({"text": texts}), tmp_path / name)
    counts = ReadCounts()
    assert read(tmp_path / name, counts=counts, max_document_bytes=100) == texts[1:]
    assert counts.too_long == 1


def test_a_time_that_python_cannot_hold_is_malformed(tmp_path):
    times = pa.array([0, 10**18], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["one", "two"], "at": times}), tmp_path / "t.parquet")
    config, counts = SourceConfig(input=[str(tmp_path)]), ReadCounts()
    (unit,) = work_units(find_files(config), config)
    (batch,) = read_batches(unit, config, counts, ["at"])
    assert batch.texts == ["one"] and counts.malformed == 1
    assert "row 2: cannot be held" in counts.first[0]


def test_a_table_that_ends_with_a_quote_is_whole(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'text\n"a ""b"""\n"c\nd"')
    assert read(tmp_path / "t.csv") == ['a "b"', "c\nd"]


def test_a_line_without_end_is_not_held_in_memory(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"text,n\na,1\n" + b"b," * 100_000)
    with pytest.raises(DataError, match=r"t.csv, line 3: a field that begins here is longer than 1000 characters"):
        read(tmp_path / "t.csv", max_document_bytes=1000)


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"text,n,text,,\na,1,b,,\n")
    with pytest.raises(DataError, match=r"t.csv: has two columns 'text'"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"text,n,,\na,1,,\n")
    assert read(tmp_path / "t.csv") == ["a"]


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("unit_bytes", [1, 10**9])
def test_arrow_files_and_streams(tmp_path, kind, unit_bytes):
    schema = pa.schema({"text": pa.string(), "id": pa.int64()})
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(tmp_path / "t.arrow"), schema) as writer:
        for start in (0, 2):
            rows = {"text": TEXTS[start : start + 2], "id": [start, start + 1]}
            writer.write_batch(pa.record_batch(rows, schema=schema))
    assert read(tmp_path / "t.arrow", work_unit_bytes=unit_bytes) == TEXTS


def test_several_text_fields_are_joined(tmp_path):
    rows = [{"title": "T", "body": "B"}, {"title": None, "body": "only body"}, {"title": "only title", "body": ""}]
    (tmp_path / "t.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    fields = {"text_field": ["title", "body"], "text_separator": "\n"}
    assert read(tmp_path / "t.jsonl", **fields) == ["T\nB", "only body", "only title"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", **fields) == ["T\nB", "only body", "only title"]
    (tmp_path / "u.jsonl").write_bytes(b'{"title": "T"}\n')
    with pytest.raises(DataError, match="has no field 'body', only title"):
        read(tmp_path / "u.jsonl", malformed="stop", **fields)


def test_a_list_names_the_files(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "b.jsonl", ["b"])
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    (tmp_path / "list.txt").write_text("# in this order\nb.jsonl\n\na.jsonl\n")
    monkeypatch.chdir(tmp_path)
    assert read("@list.txt") == ["b", "a"]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(DataError, match=r"none.txt: names no file"):
        read("@none.txt")
    with pytest.raises(DataError, match=r"missing.txt: cannot be read: No such file"):
        read("@missing.txt")


def test_urls(tmp_path):
    write_jsonl(tmp_path / "files" / "a.jsonl", TEXTS)
    (tmp_path / "files" / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "files" / "a.jsonl").read_bytes()))
    assert read(f"file://{tmp_path}/files/*") == TEXTS * 2
    assert read(f"file://{tmp_path}/files") == TEXTS * 2
    assert read(f"file://{tmp_path}/files/a.jsonl", work_unit_bytes=10) == TEXTS
    with pytest.raises(DataError, match=r"there is no such (file|input)"):
        read(f"file://{tmp_path}/files/c.jsonl")
    with pytest.raises(DataError, match=r"(?i)nosuch://x/a.jsonl: .*protocol"):
        read("nosuch://x/a.jsonl")


def test_a_file_of_a_web_server_in_units(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", TEXTS * 50)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert read(f"{url}/a.jsonl") == TEXTS * 50
        with pytest.raises(DataError, match=r"there is no such file"):
            read(f"{url}/b.jsonl")
        # What links to others is no directory for that.
        (tmp_path / "links.html").write_text('<a href="other.html">')
        assert read(f"{url}/links.html", format="text") == ['<a href="other.html">']
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    unit_bytes=st.integers(1, 200),
    limit=st.integers(30, 60),
)
def test_lines_that_are_too_long_are_left_out_wherever_units_begin(tmp_path_factory, lengths, unit_bytes, limit):
    path = tmp_path_factory.mktemp("long") / "t.txt"
    path.write_bytes(b"\n".join(b"x" * length for length in lengths) + b"\n")
    counts = ReadCounts()
    mode = {"text_documents": "line", "max_document_bytes": limit, "work_unit_bytes": unit_bytes}
    assert [len(t) for t in read(path, counts=counts, **mode)] == [n for n in lengths if n <= limit]
    assert counts.too_long == sum(n > limit for n in lengths)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    unit_bytes=st.integers(1, 40),
    chunk_bytes=st.integers(1, 9),
    limit=st.integers(4, 9),
    mark=st.booleans(),
)
def test_reading_in_small_chunks_changes_nothing(tmp_path_factory, lengths, unit_bytes, chunk_bytes, limit, mark):
    content = b"\xef\xbb\xbf" * mark + b"\n".join(b"abcdefghi"[:length] for length in lengths) + b"\n"
    path = tmp_path_factory.mktemp("chunks") / "t.txt"
    path.write_bytes(content)
    path.with_name("t.txt.gz").write_bytes(gzip.compress(content))
    mode = {"text_documents": "line", "max_document_bytes": limit, "work_unit_bytes": unit_bytes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
        for name in ("t.txt", "t.txt.gz"):
            counts = ReadCounts()
            assert [len(t) for t in read(path.with_name(name), counts=counts, **mode)] == [
                n for n in lengths if n <= limit
            ]
            assert counts.too_long == sum(n > limit for n in lengths)


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_a_document_beyond_all_bounds_is_counted_and_its_neighbours_are_read(tmp_path, name):
    giant = orjson.dumps({"text": "words " * 2_000_000}) + b"\n"
    content = b'{"text": "before"}\n' + giant + b'{"text": "after"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    counts = ReadCounts()
    assert read(tmp_path / name, counts=counts, max_document_bytes=2_000_000) == ["before", "after"]
    assert counts.too_long == 1 and "is longer than max_document_bytes = 2000000" in counts.first[0]
    with pytest.raises(DataError, match="is longer than max_document_bytes"):
        read(tmp_path / name, malformed="stop", max_document_bytes=2_000_000)


def test_what_lies_before_a_break_is_read_when_damaged_files_are_skipped(tmp_path):
    lines = b"".join(orjson.dumps({"text": f"line {n} " + "x" * (n * 7919 % 500)}) + b"\n" for n in range(20_000))
    packed = gzip.compress(lines)
    (tmp_path / "t.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    write_jsonl(tmp_path / "u.jsonl", ["next file"])
    (tmp_path / "v.jsonl").touch()
    counts = ReadCounts()
    texts = read(tmp_path, counts=counts, damaged_files="skip")
    assert texts[-1] == "next file" and len(texts) > 8000
    assert [text.split(" x")[0].strip() for text in texts[:-1]] == [f"line {n}" for n in range(len(texts) - 1)]
    assert counts.damaged_files == 1 and counts.records == 0  # an empty file is no damage
