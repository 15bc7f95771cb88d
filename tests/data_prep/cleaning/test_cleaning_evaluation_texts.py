"""What is taken from evaluation files, and what is refused with file and place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import DataError
from data_prep.cleaning.evaluation_texts import evaluation_files, texts_of
from data_prep.cleaning.stage_config import DecontaminationSettings

CHINESE = "这本书我读了很久，终于在昨天晚上读完了，作者的文笔很好。"


def texts(path: Path, **settings: object) -> list[str]:
    given = DecontaminationSettings.model_validate({"files": [str(path)], **settings})
    return [text for file in evaluation_files(given) for text in texts_of(file, given)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('"one"\n5\nnull\n{"a": "two"}\n', ["one", "two"]),
        ('{"a": "one"}\n5\n["two", ["three"]]\n', ["one", "two", "three"]),
        ('[["one", 1], ["two", {"a": ["three"]}]]', ["one", "two", "three"]),
        ('["one", "two"]', ["one", "two"]),
        ('{"a": ' + "[" * 900 + '"deep"' + "]" * 900 + "}\n", ["deep"]),
    ],
)
def test_all_texts_of_any_value_count(tmp_path: Path, content: str, expected: list[str]) -> None:
    (tmp_path / "quiz.jsonl").write_text(content)
    assert texts(tmp_path / "quiz.jsonl") == expected


def test_fields_may_lie_within_others(tmp_path: Path) -> None:
    path = tmp_path / "quiz.jsonl"
    path.write_text('{"doc": {"q": "one", "a": "no"}}\n{"doc": {"q": ["two", "three"]}}\n')
    assert texts(path, fields=["doc.q"]) == ["one", "two", "three"]
    with pytest.raises(DataError, match=r"fields, .*quiz\.jsonl, line 2: has no field 'doc\.a', only doc, doc\.q"):
        texts(path, fields=["doc.a"])


@pytest.mark.parametrize(("line", "what"), [('"x"', "str"), ("5", "int"), ('["q"]', "list")])
def test_where_fields_are_named_a_record_is_an_object(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "quiz.jsonl").write_text(f'{{"q": "one"}}\n{line}\n')
    with pytest.raises(DataError, match=rf"quiz\.jsonl, line 2: holds a JSON {what}\n  expected: an object with .* q"):
        texts(tmp_path / "quiz.jsonl", fields=["q"])


@pytest.mark.parametrize("name", ["quiz.csv", "quiz.parquet"])
def test_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    if name == "quiz.csv":
        (tmp_path / name).write_text("q,a,q\none,two,three\n")
    else:
        columns = [pa.array(["one"]), pa.array(["two"]), pa.array(["three"])]
        pq.write_table(pa.Table.from_arrays(columns, names=["q", "a", "q"]), tmp_path / name)
    with pytest.raises(DataError, match=rf"decontaminate\.files, .*{name}: cannot be read: has two columns 'q'"):
        texts(tmp_path / name)


@pytest.mark.parametrize("name", ["quiz.jsonl", "quiz.txt", "quiz.csv"])
def test_another_encoding_is_read_and_guessed(tmp_path: Path, name: str) -> None:
    content = {
        "quiz.jsonl": json.dumps({"q": CHINESE}, ensure_ascii=False) + "\n",
        "quiz.txt": CHINESE,
        "quiz.csv": f"q\n{CHINESE}\n",
    }[name]
    (tmp_path / name).write_bytes(content.encode("gbk"))
    assert texts(tmp_path / name, encoding="gb18030") == [CHINESE]
    with pytest.raises(DataError, match="is not UTF-8: byte 0x") as error:
        texts(tmp_path / name)
    assert "looks like GB18030: decontaminate.encoding=gb18030 reads it" in str(error.value)


def test_format_says_what_files_of_other_names_hold(tmp_path: Path) -> None:
    (tmp_path / "quiz.data").write_text('{"q": "one"}\n')
    assert texts(tmp_path / "quiz.data", format="jsonl") == ["one"]


def test_what_a_quote_may_have_swallowed_and_what_was_replaced_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "quiz.csv").write_text('id,q\n1,"foo\n2,bar\n3,baz\n4,qux"\n5,ok\n')
    assert texts(tmp_path / "quiz.csv") == ["1", "foo\n2,bar\n3,baz\n4,qux", "5", "ok"]
    (tmp_path / "quiz.jsonl").write_text('{"q": "cut \\ud83d end"}\n{"q": "whole"}\n')
    assert texts(tmp_path / "quiz.jsonl") == ["cut \ufffd end", "whole"]
    of_table, of_records = capsys.readouterr().err.splitlines()
    where = f"decontaminate.files, {tmp_path}/quiz"
    assert of_table == f"{where}.csv: 1 of 2 rows hold 4 lines, which may be rows behind a quote that is not closed"
    assert of_records == f"{where}.jsonl: replaced half a surrogate pair by U+FFFD in 1 records"
