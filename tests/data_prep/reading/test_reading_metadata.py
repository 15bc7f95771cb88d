"""What is kept beside the text: no field is missed without a word, and no value is written as Python spells it."""

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.sharding.tokenization import tokenize


@pytest.fixture
def kept(tmp_path, tokenizer_path):
    """Tokenizes, and gives what lies beside the documents."""

    def kept(*files, **settings) -> list[dict]:
        config = TokenizeConfig(
            input=[str(file) for file in files],
            output=tmp_path / "c",
            tokenizer=tokenizer_path,
            workers=1,
            **{"overwrite": True, "max_malformed_share": 1, **settings},
        )
        tokenize(config)
        paths = [s.prefix.with_name(f"{s.prefix.name}.meta.jsonl") for s in Corpus.open(tmp_path / "c").shards]
        lines = [line for path in paths for line in path.read_bytes().splitlines()]
        return [orjson.loads(line) for line in lines]

    return kept


@pytest.fixture
def tables(tmp_path):
    """The same rows as CSV, Parquet and Arrow."""
    (tmp_path / "t.csv").write_text("id,text,url\n1,a,u\n")
    table = pa.table({"id": ["1"], "text": ["a"], "url": ["u"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    return [tmp_path / name for name in ("t.csv", "t.parquet", "t.arrow")]


def test_a_column_that_no_file_has_is_refused(tmp_path, tables, kept):
    for file in tables:
        assert kept(file, metadata_fields=["url", "id"]) == [{"id": "1", "url": "u"}]
        with pytest.raises(DataError, match=r"metadata_fields: no file has the column 'urls'") as error:
            kept(file, metadata_fields=["url", "urls"])
        assert error.value.nearest == "url" and "id, text, url" in error.value.expected
    (tmp_path / "t.txt").write_text("some text")
    with pytest.raises(DataError, match=r"metadata_fields: text files have no field 'url'"):
        kept(tmp_path / "t.txt", metadata_fields=["url"])
    (tmp_path / "n.csv").write_text("text,n\nb,5\n")
    both = kept(tables[0], tmp_path / "n.csv", metadata_fields=["url", "n"])
    assert both == [{"id": "1", "url": "u"}, {"id": "n.csv@2", "n": "5"}]


@pytest.mark.parametrize("work_unit_bytes", [None, 20])
def test_a_field_that_no_record_has_is_told(tmp_path, kept, capsys, work_unit_bytes):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "a", "n": 1}\n{"text": "b", "url": null}\n')
    found = kept(tmp_path / "t.jsonl", metadata_fields=["n", "url", "nope"], work_unit_bytes=work_unit_bytes)
    assert [sorted(fields) for fields in found] == [["id", "n"], ["id", "url"]]
    assert capsys.readouterr().err.count("no record has the field") == 1
    kept(tmp_path / "t.jsonl", metadata_fields=["nope"])
    assert "metadata_fields: no record has the field 'nope'" in capsys.readouterr().err


def test_an_id_that_is_null_is_none(tmp_path, kept):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "a", "id": null}\n{"text": "b", "id": 0}\n')
    assert kept(tmp_path / "t.jsonl", metadata_fields=["id"]) == [{"id": "t.jsonl@0"}, {"id": "0"}]


def test_bytes_are_text_or_refused(tmp_path, kept):
    rows = {
        "text": ["a", "b", "c"],
        "id": [b"\xc3\xbc", b"\xff", None],
        "raw": [b"x", b"y", b"\xff"],
        "list": [[b"\xc3\xbc"], [], []],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    fields = {"metadata_fields": ["raw", "list"]}
    assert kept(tmp_path / "t.parquet", **fields) == [
        {"id": "ü", "raw": "x", "list": ["ü"]},
        {"id": "\\xff", "raw": "y", "list": []},
    ]
    with pytest.raises(DataError, match=r"t.parquet, row 3: is not UTF-8: bytes in the field 'raw'"):
        kept(tmp_path / "t.parquet", malformed="stop", **fields)


@pytest.mark.parametrize("depth", [150, 300, 600, 990])
def test_a_field_that_is_nested_too_deep_is_malformed_where_it_is_kept(tmp_path, kept, depth):
    deep = '{"text": "deep", "id": "2", "x": ' + '{"a": ' * depth + "1" + "}" * depth + "}"
    (tmp_path / "t.jsonl").write_text('{"text": "one", "id": "1", "x": 1}\n' + deep + "\n")
    assert [line["id"] for line in kept(tmp_path / "t.jsonl", metadata_fields=["id"])] == ["1", "2"]
    found = kept(tmp_path / "t.jsonl", metadata_fields=["x"])
    if depth < 200:
        assert [line["id"] for line in found] == ["1", "2"]
        return
    assert [line["id"] for line in found] == ["1"]
    with pytest.raises(DataError, match=r"t\.jsonl, line 2: is nested too deep"):
        kept(tmp_path / "t.jsonl", metadata_fields=["x"], malformed="stop")


def test_two_columns_of_the_name_of_a_field_are_refused(tmp_path, kept):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "x", "x"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: has 2 columns 'x'"):
        kept(tmp_path / "t.parquet", metadata_fields=["x"])
    assert not (tmp_path / "c").exists()
