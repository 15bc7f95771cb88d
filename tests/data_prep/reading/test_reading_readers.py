import gzip
import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from data_prep_helpers import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, group_units, work_units
from data_prep.reading.readers import read_documents

TEXTS = ["one", "two\nlines", "", "drei ü 日本 \u2028 x", "  indented\t"]


def read(*paths, counts=None, **settings) -> list[str]:
    config = SourceConfig(input=[str(path) for path in paths], **settings)
    units = work_units(find_files(config), config)
    return [d.text for unit in units for d in read_documents(unit, config, counts or ReadCounts())]


def refused(*paths, **settings) -> str:
    with pytest.raises(DataError) as error:
        read(*paths, malformed="stop", **settings)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_plain_and_compressed(tmp_path, suffix):
    plain = write_jsonl(tmp_path / "plain", TEXTS).read_bytes()
    path = tmp_path / f"texts{suffix}"
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(plain))
    assert read(path) == TEXTS


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst"])
def test_text_files_as_one_document_lines_and_paragraphs(tmp_path, suffix):
    text = "a b\n c\n\n\nd\r\ne\n \n\nf"
    path = tmp_path / f"texts{suffix}"
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))
    assert read(path) == [text.replace("\r", "")]
    assert read(path, text_documents="line") == ["a b", " c", "", "", "d", "e", " ", "", "f"]
    assert read(path, text_documents="paragraph") == ["a b\n c", "d\ne", "f"]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    lines=st.lists(st.text(alphabet="ab \u00fc", max_size=6), min_size=1, max_size=12),
    ending=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    unit_bytes=st.integers(1, 30),
)
def test_cutting_a_file_into_units_changes_nothing(tmp_path_factory, lines, ending, unit_bytes):
    path = tmp_path_factory.mktemp("cut") / "t.txt"
    path.write_bytes(("\n".join(lines) + ending).encode())
    if path.stat().st_size == 0:
        return
    for mode in ("line", "paragraph"):
        whole = read(path, text_documents=mode)
        assert read(path, text_documents=mode, work_unit_bytes=unit_bytes) == whole
    # and the whole is what the text says
    text = path.read_bytes().decode()
    assert read(path, text_documents="line") == [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=8), min_size=1, max_size=8), unit_bytes=st.integers(1, 40))
def test_json_lines_cut_anywhere(tmp_path_factory, texts, unit_bytes):
    path = write_jsonl(tmp_path_factory.mktemp("cut") / "t.jsonl", texts)
    assert read(path, work_unit_bytes=unit_bytes) == texts


def test_document_ids_and_other_fields(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"text": "a", "id": "first", "kind": "x"}\n\n{"text": "b"}\n')
    config = SourceConfig(input=[str(path)])
    documents = [d for u in work_units(find_files(config), config) for d in read_documents(u, config, ReadCounts())]
    assert [d.id for d in documents] == ["first", "t.jsonl@43"]
    assert documents[0].metadata["kind"] == "x"


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfabc\n")
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "abc"}\n')
    assert read(tmp_path / "t.txt") == ["abc\n"]
    assert read(tmp_path / "t.txt", text_documents="line") == ["abc"]
    assert read(tmp_path / "t.jsonl") == ["abc"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("unit_bytes", [1, 2**20])
def test_parquet(tmp_path, kind, unit_bytes):
    texts = [f"text {n}" for n in range(50)]
    table = pa.table({"body": pa.array(texts, kind), "n": list(range(50))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    config = SourceConfig(input=[str(tmp_path / "t.parquet")], text_field="body", work_unit_bytes=unit_bytes)
    assert len(work_units(find_files(config), config)) == (8 if unit_bytes == 1 else 1)
    assert read(tmp_path / "t.parquet", text_field="body", work_unit_bytes=unit_bytes) == texts


def test_rows_are_numbered_through_the_file(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b", "c", None]}), tmp_path / "t.parquet", row_group_size=2)
    assert "row 4: its column 'text' is null" in refused(tmp_path / "t.parquet", work_unit_bytes=1)


def test_saved_hugging_face_datasets(tmp_path):
    import datasets

    texts = [f"text {n}" for n in range(3000)]
    data = datasets.Dataset.from_dict({"text": texts})
    data.save_to_disk(tmp_path / "one", num_shards=2)
    data.filter(lambda row: row["text"].endswith("7")).save_to_disk(tmp_path / "filtered")
    datasets.DatasetDict(train=data, test=data.select(range(5))).save_to_disk(tmp_path / "dict")
    assert read(tmp_path / "one") == read(tmp_path / "one", work_unit_bytes=1) == texts
    assert read(tmp_path / "filtered") == texts[7::10]
    assert read(tmp_path / "dict") == texts
    assert read(tmp_path / "dict", dataset_split="test") == texts[:5]
    message = refused(tmp_path / "dict", dataset_split="tests")
    assert "has no split 'tests'" in message and "one of train, test" in message and "did you mean: test" in message
    assert "has no column 'txt'" in refused(tmp_path / "one", text_field="txt")


def test_directories_and_patterns_in_order(tmp_path):
    for name in ("b/2.txt", "b/10.txt", "a.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "notes.docx").write_text("left out")
    (tmp_path / "notes.md").write_text("# Notes")
    assert read(tmp_path) == ["a.txt", "b/10.txt", "b/2.txt", "# Notes"]
    assert read(tmp_path / "b" / "*.txt", tmp_path / "a.txt") == ["b/10.txt", "b/2.txt", "a.txt"]
    assert read(tmp_path / "**" / "2*.txt") == ["b/2.txt"]


def test_small_files_share_a_task(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:03}.txt").write_text("x" * 10)
    config = SourceConfig(input=[str(tmp_path)], work_unit_bytes=200)
    groups = group_units(work_units(find_files(config), config), config.work_unit_bytes)
    assert [len(group) for group in groups] == [20] * 5


def test_zstandard_in_several_frames(tmp_path):
    frames = b"".join(zstandard.compress(orjson.dumps({"text": text}) + b"\n") for text in TEXTS)
    (tmp_path / "t.jsonl.zst").write_bytes(frames)
    assert read(tmp_path / "t.jsonl.zst") == TEXTS


def _parquet_with(column: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": column}), sink)
    return sink.getvalue()


LINES = b'{"text": "a"}\n' * 5
BROKEN = {
    "malformed json": ("t.jsonl", LINES + b'{"text": "a"\n' + LINES, "t.jsonl, line 6: is not valid JSON"),
    "text field missing": ("t.jsonl", LINES + b'{"txet": "a"}\n', "t.jsonl, line 6: has no field 'text', only txet"),
    "text field nearest": ("t.jsonl", b'{"texts": "a"}\n', "did you mean: texts"),
    "text not a string": ("t.jsonl", b'{"text": 5}\n', "t.jsonl, line 1: its field 'text' holds int"),
    "not an object": ("t.jsonl", LINES + b'["text"]\n', "t.jsonl, line 6: holds a JSON list"),
    "json not UTF-8": ("t.jsonl", LINES + b'{"text": "\xff"}\n', "t.jsonl, line 6: is not UTF-8: byte 0xff at byte 11"),
    "text not UTF-8": ("t.txt", b"good\nb\xe9d\n", "t.txt, line 2: is not UTF-8: byte 0xe9 at byte 2"),
    "empty": ("t.jsonl", b"", "t.jsonl: is empty"),
    "unknown kind": ("t.docx", b"x", "t.docx: is of an unknown kind"),
    "not gzip": ("t.txt.gz", b"plain text", "t.txt.gz: is not valid gzip"),
    "truncated gzip": ("t.jsonl.gz", gzip.compress(LINES)[:-9], "t.jsonl.gz: is truncated"),
    "not zstandard": ("t.txt.zst", b"plain text", "t.txt.zst: is not valid zstd"),
    "truncated zstandard": ("t.jsonl.zst", zstandard.compress(LINES * 9)[:-4], "t.jsonl.zst: is truncated"),
    "malformed in gzip": ("t.jsonl.gz", gzip.compress(LINES + b"{\n"), "t.jsonl.gz, line 6: is not valid JSON"),
    "not parquet": ("t.parquet", b"PAR1 nothing", "t.parquet: cannot be read"),
    "null": ("t.parquet", _parquet_with(pa.array(["a", None])), "t.parquet, row 2: its column 'text' is null"),
    "numbers": ("t.parquet", _parquet_with(pa.array([1, 2])), "t.parquet: its column 'text' holds int64"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_one_error_that_names_the_place(tmp_path, case):
    name, content, expected = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name, text_documents="line")
    assert expected in message
    assert len(message.splitlines()) <= 3


def test_the_line_number_is_that_of_the_file_not_of_the_unit(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(LINES * 20 + b"{\n" + LINES)
    assert "t.jsonl, line 101: is not valid JSON" in refused(tmp_path / "t.jsonl", work_unit_bytes=100)


def test_text_files_that_are_not_utf8_name_the_line_in_every_mode(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"good\n\nfine\nb\xe9d\n")
    for mode in ("file", "line", "paragraph"):
        assert "t.txt, line 4: is not UTF-8: byte 0xe9 at byte 2" in refused(tmp_path / "t.txt", text_documents=mode)


def test_malformed_records_can_be_left_out(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(LINES + b'{"text": \n{"text": 5}\n[]\n{"text": "\xff"}\n' + LINES)
    counts = ReadCounts()
    assert read(tmp_path / "t.jsonl", malformed="skip", counts=counts) == ["a"] * 10
    assert counts.malformed == 4


def test_missing_input_names_the_nearest_file(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(LINES)
    message = refused(tmp_path / "corpos.jsonl")
    assert "there is no such input" in message and f"did you mean: {tmp_path / 'corpus.jsonl'}" in message
