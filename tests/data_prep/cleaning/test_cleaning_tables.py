"""Rows of tables that are broken, and columns of one name, in cleaning."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_cleaning_readers import read, reasons

from configs.errors import DataError


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ('a nail of 6"', "has a quoted field that holds rows; is its quote closed?"),
        ('a 6" nail', "has text after a closing quote"),
    ],
)
def test_what_a_quote_swallows_is_counted_in_lines(tmp_path: Path, last: str, kind: str) -> None:
    texts = [f"text number {n}" for n in range(300)]
    texts[10], texts[250] = '"unmatched', last
    (tmp_path / "t.csv").write_text("n,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    documents, counts = read(tmp_path, "tasks=1", "max_malformed_share=0.9", paths=str(tmp_path / "t.csv"))
    assert [document.text for document in documents] == texts[:10] + texts[251:]
    assert reasons(counts) == {f"malformed: {kind}": 241}
    tally = counts.stage("read").tally("s")
    assert (tally.documents_in, tally.documents_out) == (300, 59)


def test_a_broken_row_of_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"n,text\n" + b'1,"a"b\n' * 150)
    with pytest.raises(DataError, match="malformed; the last has text after a closing quote"):
        read(tmp_path, "max_malformed_share=0.5", paths=str(tmp_path / "a.csv"))


def test_columns_of_one_name_are_refused_where_they_are_kept(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "x", "x"])
    pq.write_table(table, tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: has 2 columns 'x'"):
        read(tmp_path, paths=path)
    with pytest.raises(DataError, match=r"a\.parquet: has 2 columns 'x'"):
        read(tmp_path, "sources.s.metadata_fields=[x]", paths=path)
    assert [d.text for d in read(tmp_path, "sources.s.metadata_fields=[y]", paths=path)[0]] == ["a"]


def test_what_a_table_needs_is_a_setting_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;text\n1;a\n")
    with pytest.raises(DataError, match="has no column 'text'") as error:
        read(tmp_path, paths=str(tmp_path / "a.csv"))
    assert error.value.nearest == "sources.s.delimiter=';'"
    (tmp_path / "a.csv").write_bytes("id,text\n1,a\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"looks like UTF-16-LE: sources\.s\.encoding=utf-16-le reads it"):
        read(tmp_path, paths=str(tmp_path / "a.csv"))
