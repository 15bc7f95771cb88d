"""JSON as people write it: beyond the standard, in arrays, over several lines, with texts within other fields."""

import gzip
import io
import json
import math
import tracemalloc

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_reading_formats import read

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.json_layout import JsonRecordsStream, is_json_document
from data_prep.reading.readers import read_batches, read_documents
from data_prep.reading.records import ALL_FIELDS

BOM = b"\xef\xbb\xbf"
VALUES = st.recursive(
    st.text(st.sampled_from('ab"\\{}[],:\n é中'), max_size=8) | st.integers(-9, 9) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text("ab}", max_size=3), VALUES, max_size=3), min_size=1, max_size=6)
LAYOUTS = {
    "array": json.dumps,
    "indented array": lambda records: json.dumps(records, indent=2, ensure_ascii=False),
    "Windows": lambda records: json.dumps(records, indent=1).replace("\n", "\r\n"),
    "indented": lambda records: "\n".join(json.dumps(record, indent=1) for record in records),
    "two arrays": lambda records: json.dumps(records[:2]) + "\n" + json.dumps(records[2:]),
    "lines": lambda records: "\n".join(map(json.dumps, records)),
    "joined": lambda records: "".join(map(json.dumps, records)),
    "commas": lambda records: ",\n".join(map(json.dumps, records)),
}


class InPieces(io.BytesIO):
    piece_bytes = 1 << 20

    def read1(self, size=-1):
        return self.read(self.piece_bytes)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60, deadline=None)
@given(records=RECORDS, piece_bytes=st.integers(1, 40))
@example(records=[{"a": '\\"'}, {"a": "\\"}], piece_bytes=1)
def test_any_layout_becomes_lines_at_the_places_of_the_file(layout, records, piece_bytes):
    data = LAYOUTS[layout](records).encode()
    stream = InPieces(data)
    stream.piece_bytes = piece_bytes
    out = JsonRecordsStream(stream).read()
    assert [json.loads(line) for line in out.split(b"\n") if line.strip()] == records
    if layout != "joined":
        assert len(out) == len(data)


def test_what_is_no_line_each_is_recognised(tmp_path):
    path, config = tmp_path / "t.json", SourceConfig(input="x")
    for data, expected in {
        b'[{"text": "a"}]': True,
        BOM + b' \n[\n {"text": "a"}\n]': True,
        b'{\n "text": "a"\n}\n{\n "text": "b"\n}': True,
        b'{"text": "a",\n "n": 1}': True,
        b'{"text": "a"}\n{"text": "b"}': False,
        b'{"text": "a"}': False,
        b'{"text": "a\n{"text": "b"}': False,
        b'{"text": \n{"text": "b"}': False,
        b"": False,
        b"no JSON": False,
        b'{"text": "' + b"long" * 50_000 + b'"}\n{"text": "b"}': False,
        gzip.compress(b"[1]")[:9]: False,
    }.items():
        path.write_bytes(data)
        assert is_json_document(str(path), config) == expected, data[:40]


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.jsonl.gz"])
@pytest.mark.parametrize("layout", ["array", "indented array", "indented"])
def test_documents_of_arrays_and_indented_records(tmp_path, name, layout):
    records = [{"text": f"text {n}\nmore", "id": None if n % 2 else n} for n in range(9)]
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name).write_bytes(pack(BOM + LAYOUTS[layout](records).encode()))
    assert read(tmp_path / name) == [record["text"] for record in records]
    assert read(tmp_path / name, work_unit_bytes=20) == [record["text"] for record in records]
    (tmp_path / name).write_bytes(pack(LAYOUTS[layout](records).encode("utf-16")))
    assert read(tmp_path / name, encoding="utf-16") == [record["text"] for record in records]
    # What is wrong in one record costs that one, and its line is named.
    broken = LAYOUTS[layout](records).replace('"text 4', '"txet 4').replace('"text": "txet 4', '"texts": "')
    (tmp_path / name).write_bytes(pack(broken.encode()))
    counts = ReadCounts()
    assert len(read(tmp_path / name, counts=counts)) == 8
    assert counts.malformed == 1 and "has no field 'text', only texts, id" in counts.first[0]
    (tmp_path / name).write_bytes(pack(LAYOUTS[layout](records).encode()[:-3]))
    with pytest.raises(DataError, match=f"{name}: is truncated"):
        read(tmp_path / name)
    counts = ReadCounts()
    assert len(read(tmp_path / name, counts=counts, damaged_files="skip")) == 8 and counts.damaged_files == 1


@pytest.mark.slow
def test_an_array_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"text": "x" * 1000, "n": n} for n in range(20_000)], indent=1))
    config = SourceConfig(input=[str(path)])
    (unit,) = work_units(find_files(config), config)
    tracemalloc.start()
    assert sum(1 for _ in read_documents(unit, config, ReadCounts())) == 20_000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < path.stat().st_size / 4


def test_a_long_record_of_an_array_is_left_out_alone(tmp_path):
    records = [{"text": "one"}, {"text": "long" * 300_000}, {"text": "two"}]
    (tmp_path / "t.json").write_text(json.dumps(records))
    counts = ReadCounts()
    assert read(tmp_path / "t.json", counts=counts, max_document_bytes=100_000) == ["one", "two"]
    assert counts.too_long == 1


def test_what_python_writes_and_json_does_not_know(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ['{"text": "one", "score": NaN}', '{"text": "two", "score": -Infinity}', '{"text": "cut \\ud83d end"}']
    path.write_bytes("\n".join(lines).encode() + b"\n" + BOM + b'{"text": "\\ud83d\\ude00 four"}\n')
    counts = ReadCounts()
    assert read(path, counts=counts) == ["one", "two", "cut \ufffd end", "\U0001f600 four"]
    assert (counts.records, counts.replaced) == (0, 1)
    for size in (1, 30, 60):
        counts = ReadCounts()
        assert len(read(path, counts=counts, work_unit_bytes=size)) == 4 and counts.replaced == 1
    config = SourceConfig(input=[str(path)])
    (unit,) = work_units(find_files(config), config)
    scores = [d.metadata.get("score") for d in read_documents(unit, config, ReadCounts())]
    assert math.isnan(scores[0]) and scores[1] == -math.inf
    path.write_bytes(b'{"text": "a"}\n' + b"[" * 100_000 + b'\n{"text": "b", "n": nan}\n')
    counts = ReadCounts()
    assert read(path, counts=counts) == ["a"] and counts.malformed == 2


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
NESTED = [
    ({"meta": {"text": "inner"}}, "meta.text", "inner"),
    ({"a": {"b": {"c": "deep"}}}, "a.b.c", "deep"),
    ({"meta.text": "dotted", "meta": {"text": "inner"}}, "meta.text", "dotted"),
    ({"lines": ["one", "two", None]}, "lines", "one\n\ntwo"),
    ({"messages": CHAT}, "messages", "user: Hi\n\nassistant: Hello"),
    ({"x": {"messages": CHAT}}, "x.messages", "user: Hi\n\nassistant: Hello"),
    ({"c": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": None}]}, "c", "human: Hi"),
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
@pytest.mark.parametrize(("record", "field", "text"), NESTED)
def test_texts_within_other_fields(tmp_path, kind, record, field, text):
    path = tmp_path / f"t.{kind}"
    table = pa.Table.from_pylist([{**record, "n": 1}] * 3)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist()))
    assert read(path, text_field=field) == [text] * 3
    config = SourceConfig(input=[str(path)], text_field=field, work_unit_bytes=1)
    documents = [d for u in work_units(find_files(config), config) for d in read_documents(u, config, ReadCounts())]
    assert [(d.text, d.metadata["n"]) for d in documents] == [(text, 1)] * 3


def test_parts_of_a_message_are_joined(tmp_path):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    (tmp_path / "t.jsonl").write_bytes(orjson.dumps({"m": [{"role": "user", "content": parts}, {"content": "x"}]}))
    assert read(tmp_path / "t.jsonl", text_field="m", text_separator="|") == ["user: one two|x"]


@pytest.mark.parametrize(
    "silent",
    [
        {"role": "assistant", "tool_calls": [{"name": "search"}]},
        {"from": "gpt"},
        {"role": "user", "content": [{"type": "image", "url": "u"}]},
        {"role": "user", "content": [{"type": "image", "text": None}]},
    ],
)
def test_messages_without_content_are_left_away(tmp_path, silent):
    image = {"role": "user", "content": [{"type": "image", "url": "u"}, {"type": "text", "text": "What is it?"}]}
    records = [{"m": [CHAT[0], silent, CHAT[1]]}, {"m": [image, CHAT[1]]}, {"m": [silent]}]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(map(orjson.dumps, records)))
    counts = ReadCounts()
    texts = read(tmp_path / "t.jsonl", counts=counts, text_field="m", text_separator="|")
    assert texts == ["user: Hi|assistant: Hello", "user: What is it?|assistant: Hello", ""]
    assert counts.records == 0


@pytest.mark.parametrize("message", [{"text": "x"}, {"role": 5}, {"role": "user", "content": [5]}, {"content": {}}])
def test_what_is_no_message_is_malformed(tmp_path, message):
    (tmp_path / "t.jsonl").write_bytes(orjson.dumps({"m": [CHAT[0], message]}))
    with pytest.raises(DataError, match="its field 'm' holds a list that is no conversation"):
        read(tmp_path / "t.jsonl", text_field="m", malformed="stop")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_what_holds_no_text_names_what_does(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    rows = [{"meta": {"text": "a", "n": 1}, "tags": [1, 2]}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(orjson.dumps(rows[0]))
    for field, message in (
        ("meta", "(did you mean: |such as )meta.text"),
        ("meta.txt", "did you mean: (meta.)?text"),
        ("tags", "its (field|column) 'tags' holds "),
        ("tags.x", "'tags(.x)?'"),
    ):
        with pytest.raises(DataError, match=message):
            read(path, text_field=field, malformed="stop")


def test_two_columns_of_the_texts_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "text", "n"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("t.parquet", "t.arrow"):
        with pytest.raises(DataError, match=f"{name}: has 2 columns 'text'"):
            read(tmp_path / name)
        assert read(tmp_path / name, text_field="n") == ["c"]


def test_two_columns_of_one_name_are_refused_where_it_is_asked_for(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "x", "x"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("t.parquet", "t.arrow"):
        config = SourceConfig(input=[str(tmp_path / name)])
        (unit,) = work_units(find_files(config), config)
        for fields in (["x"], ["x.y"], ALL_FIELDS):
            with pytest.raises(DataError, match=f"{name}: has 2 columns 'x'"):
                list(read_batches(unit, config, ReadCounts(), fields))
        assert [batch.texts for batch in read_batches(unit, config, ReadCounts(), ["id"])] == [["a"]]
        assert read(tmp_path / name) == ["a"]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_line_break_within_a_string_spoils_its_record_only(tmp_path, monkeypatch, piece_bytes, line_break):
    monkeypatch.setattr("data_prep.reading.json_layout._READ_BYTES", piece_bytes)
    records = ['{"text":\n"one"}', '{"text": "two\nlines"}', '{"text": "three"}']
    (tmp_path / "a.json").write_text(f"[\n{','.join(records)}\n]".replace("\n", line_break), newline="")
    counts, config = ReadCounts(), SourceConfig(input=[str(tmp_path)])
    (unit,) = work_units(find_files(config), config)
    assert [found.text for found in read_documents(unit, config, counts)] == ["one", "three"]
    assert counts.malformed == 1
