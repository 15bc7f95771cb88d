"""Deduplication by address, by sentence and line, and against what was cleaned before."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chinese_texts import chinese
from cleaning_inputs import changed, prose, write_json_lines
from datatrove.data import Document
from test_cleaning_pipeline import documents_of

from configs.errors import DataError
from data_prep.cleaning.comparison import FieldValue, UnitSignature
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.record_fields import FieldCounter, comparable, compared_value, plain
from data_prep.cleaning.run import clean

MENU = "Home of all that\nContact the ones of it\nImprint and the rest of that"


def cleaned(root: Path, records: list[object], stages: list[str], **settings: object) -> dict[str, dict]:
    """Documents by id of a cleaning in two tasks."""
    source = write_json_lines(root / "raw" / "a.jsonl", records)
    write_json_lines(root / "raw" / "b.jsonl", [{"text": prose(900), "id": "other", "url": "u900"}])
    given = {"output": root / "out", "sources": {"a": {"input": str(source.parent)}}, "tasks": 2, "workers": 1}
    clean(CleanConfig(**given, stages=stages, **settings))
    return {record["id"]: record for record in documents_of(root / "out")}


@pytest.mark.slow
def test_one_document_of_an_address_is_kept(tmp_path: Path) -> None:
    records = [
        {"text": prose(1, 3), "id": "short", "url": "u1"},
        {"text": prose(2, 9), "id": "long", "url": "u1"},
        {"text": prose(3), "id": "none"},
        {"text": prose(4), "id": "none"},
    ]
    kept = cleaned(tmp_path, records, ["url_dedup"])
    assert sorted(kept) == ["long", "none", "other"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (stage,) = (s for s in report["stages"] if s["name"] == "url_dedup")
    assert stage["dropped"] == 1 and stage["documents_out"] == 4 and stage["reasons"]["duplicate"]["documents"] == 1
    newer = [{"text": prose(7), "id": "seen", "url": "u1"}, {"text": prose(8), "id": "new", "url": "u8"}]
    against = {"url_dedup": {"against": [tmp_path / "out"]}}
    assert sorted(cleaned(tmp_path / "second", newer, ["url_dedup"], **against)) == ["new"]
    assert not json.loads((tmp_path / "second" / "out" / "report.json").read_text())["warnings"]


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["line", "sentence"])
def test_what_stood_in_an_earlier_document_is_taken_out(tmp_path: Path, unit: str) -> None:
    same = MENU if unit == "line" else " ".join(prose(50).split(".")[i].strip() + "." for i in range(3))
    records = [{"text": f"{prose(n)}\n{same}\n{prose(n + 100)}", "id": str(n)} for n in range(4)]
    records.append({"text": f"{same}\nThe end of it.", "id": "little"})
    kept = cleaned(tmp_path, records, ["sentence_dedup"], sentence_dedup={"unit": unit})
    assert sorted(kept) == ["0", "1", "2", "3", "other"]
    assert [same in kept[str(n)]["text"] for n in range(4)] == [True, False, False, False]
    assert all(prose(n) in kept[str(n)]["text"] and prose(n + 100) in kept[str(n)]["text"] for n in range(4))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (stage,) = (s for s in report["stages"] if s["name"] == "sentence_dedup")
    assert (stage["changed"], stage["dropped"], list(stage["reasons"])) == (3, 1, ["too_little_left"])
    newer = [{"text": f"{prose(500)}\n{same}\n{prose(501)}", "id": "new"}]
    settings = {"unit": unit, "against": [tmp_path / "out"]}
    kept = cleaned(tmp_path / "second", newer, ["sentence_dedup"], sentence_dedup=settings)
    assert same not in kept["new"]["text"] and prose(500) in kept["new"]["text"]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "end"), [("zh", "。"), ("xx", "။")])
def test_sentences_of_one_long_line_without_spaces_are_taken_out(tmp_path: Path, language: str, end: str) -> None:
    def text(seed: int) -> str:
        made = chinese(seed, 6)
        if end == "。":
            return made
        # Burmese letters, one for each Chinese character.
        return "".join(end if sign in "。！？" else chr(0x1000 + ord(sign) % 33) for sign in made)

    same = text(999)
    records = [{"text": text(n) + same + text(n + 100), "id": str(n)} for n in range(6)]
    settings = {"word_language": language, "sentence_dedup": {"min_doc_words": 1}}
    kept = cleaned(tmp_path, records, ["sentence_dedup"], **settings)
    assert [same in kept[str(n)]["text"] for n in range(6)] == [True, *[False] * 5]
    assert all(kept[str(n)]["text"] == text(n) + text(n + 100) for n in range(1, 6))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (stage,) = (s for s in report["stages"] if s["name"] == "sentence_dedup")
    assert stage["units"] == 6 * 18 + 9 and stage["characters"] > stage["unspaced_characters"] > 1000


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["line", "sentence"])
def test_texts_in_which_few_units_are_found_are_told(tmp_path: Path, unit: str) -> None:
    text = "".join(chr(0x0E01 + n * n % 40) for n in range(4500))
    cleaned(tmp_path, [{"text": text}] * 8, ["sentence_dedup"], word_language="xx", sentence_dedup={"unit": unit})
    warnings = json.loads((tmp_path / "out" / "report.json").read_text())["warnings"]
    least = {"line": 4000, "sentence": 400}[unit]
    assert any(line.startswith("sentence_dedup saw") and f"less than one in {least};" in line for line in warnings)


@pytest.mark.slow
def test_paragraphs_that_are_lines_are_no_cause_to_warn(tmp_path: Path) -> None:
    texts = [{"text": "\n".join(prose(10 * n + k) for k in range(5))} for n in range(6)]
    cleaned(tmp_path, texts, ["sentence_dedup"], sentence_dedup={"unit": "line", "span": 1})
    assert not json.loads((tmp_path / "out" / "report.json").read_text())["warnings"]


@pytest.mark.slow
def test_empty_addresses_are_none_and_bytes_are_text(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": [prose(n) for n in range(9)], "url": [b"%d" % (n % 3) if n < 6 else b"" for n in range(9)]}),
        tmp_path / "a.parquet",
    )
    given = {"output": tmp_path / "out", "sources": {"a": {"input": str(tmp_path / "a.parquet")}}}
    clean(CleanConfig(**given, stages=["url_dedup"], tasks=1, workers=1))
    assert len(documents_of(tmp_path / "out")) == 6
    assert FieldValue("url")(Document("one", "1", metadata={"url": ""})) != FieldValue("url")(
        Document("two", "2", metadata={"url": ""})
    )


@pytest.mark.parametrize("value", [None, "", " \n", b"", [], {}, (), float("nan")])
def test_values_without_content_are_none(value: object) -> None:
    assert comparable(value) is None


@pytest.mark.parametrize("values", [[{"a": 1, "b": b"x"}, {"a": 1, "b": b"y"}], [[b"x"], [b"y"]], [b"x", b"y"]])
def test_bytes_within_a_field_that_is_kept_are_compared(values: list[object]) -> None:
    records = [{"text": "t", "url": value} for value in values]
    found = {compared_value(record, plain(record), "url") for record in records}
    assert len(found) == 2 and None not in found
    for kept in ({"url": ["x"]}, {"url": 1}):
        assert compared_value(kept, kept, "url") is None


def test_other_bytes_are_other_values_and_depth_costs_only_what_is_compared() -> None:
    values = [
        b"caf\xe9",
        b"caf\xe8",
        b"\x80\0",
        b"\x81\0",
        [b"a"],
        [b"b"],
        {"a": b"\xff"},
        {"a": b"\xfe"},
        0,
        False,
        "x",
    ]
    assert len({comparable(value) for value in values}) == len(values)
    deep: object = "x"
    for _ in range(250):
        deep = [deep]
    counter = FieldCounter(
        CleanConfig(
            output=Path("out"), stages=["url_dedup"], sources={"a": {"input": "a", "metadata_fields": ["url"]}}
        ),
        "a",
        StageCounts("read"),
    )
    counter.see({"text": "t", "url": "u", "deep": deep})
    assert counter.counts["url"] == counter.counts["deep"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("metadata_fields", [None, ["title"]])
@pytest.mark.parametrize("field", ["meta.u", "metadata.u", "a.b.c", "url", "id"])
def test_documents_are_told_apart_by_any_field(tmp_path: Path, field: str, metadata_fields: list[str] | None) -> None:
    def record(number: int) -> dict:
        value: object = number % 3
        for name in reversed(field.split(".")):
            value = {name: value}
        return {"text": prose(number), "title": "t"} | dict(value)

    source = write_json_lines(tmp_path / "a.jsonl", [record(n) for n in range(9)])
    sources = {"a": {"input": str(source), "metadata_fields": metadata_fields}}
    given = {"output": tmp_path / "out", "sources": sources, "tasks": 2, "workers": 1}
    clean(CleanConfig(**given, stages=["url_dedup"], url_dedup={"field": field}))
    kept = documents_of(tmp_path / "out")
    assert len(kept) == 3 and not any("url_dedup_value" in document for document in kept)
    if metadata_fields:
        assert all(document.keys() == {"text", "id", "source", "title", "duplicate_count"} for document in kept)


@pytest.mark.slow
@pytest.mark.parametrize(("field", "like"), [("urll", "url"), ("URL", "url"), ("u", "meta.u"), ("nothing", None)])
def test_a_field_that_no_record_has_is_an_error(tmp_path: Path, field: str, like: str | None) -> None:
    source = write_json_lines(tmp_path / "a.jsonl", [{"text": prose(1), "url": "x", "meta": {"u": 1}, "URL": None}])
    config = CleanConfig(
        output=tmp_path / "out",
        sources={"a": {"input": str(source)}},
        stages=["url_dedup"],
        url_dedup={"field": field},
        tasks=1,
        workers=1,
    )
    with pytest.raises(DataError, match=rf"url_dedup\.field: no record has a value in the field '{field}'") as caught:
        clean(config)
    assert caught.value.nearest == like and "meta, meta.u, text, url)" in caught.value.expected


@pytest.mark.slow
def test_a_source_without_a_named_field_is_told(tmp_path: Path) -> None:
    first = write_json_lines(tmp_path / "a.jsonl", [{"text": prose(1), "url": "x"}])
    second = write_json_lines(tmp_path / "b.jsonl", [{"text": prose(2), "Url": "x"}])
    sources = {"a": {"input": str(first), "metadata_fields": ["urk"]}, "b": {"input": str(second)}}
    made = clean(CleanConfig(output=tmp_path / "out", sources=sources, stages=["url_dedup"], tasks=1, workers=1)).report
    assert made["warnings"] == [
        "sources.a.metadata_fields: no record has a value in the field 'urk'; did you mean 'url'?",
        "url_dedup.field, sources.b: no record has a value in the field 'url'; did you mean 'Url'?",
    ]


@pytest.mark.slow
def test_an_older_corpus_without_the_field_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (
        {"a": {"input": str(write_json_lines(tmp_path / f"{name}.jsonl", [{"text": prose(1), name: "x"}]))}}
        for name in ("url", "address")
    )
    clean(CleanConfig(output=tmp_path / "old", sources=old, stages=[], tasks=1, workers=1))
    settings = {"field": "address", "against": [tmp_path / "old"]}
    config = CleanConfig(
        output=tmp_path / "new", sources=new, stages=["url_dedup"], url_dedup=settings, tasks=1, workers=1
    )
    (line,) = clean(config).report["warnings"]
    assert line.startswith(f"url_dedup.against, {tmp_path / 'old'}: none of the first 1 documents has a value in the ")
    assert f"warning: {line}" in capsys.readouterr().err


@pytest.mark.slow
def test_copies_of_an_older_corpus_are_dropped_and_own_ones_too(tmp_path: Path) -> None:
    older = [{"text": prose(n), "id": f"old{n}"} for n in range(6)]
    cleaned(tmp_path / "older", older, [])
    newer = [
        {"text": prose(1), "id": "exact"},
        {"text": changed(prose(2), 0.01), "id": "near"},
        {"text": prose(70), "id": "new"},
        {"text": prose(70), "id": "copy"},
        {"text": prose(71), "id": "base"},
        {"text": changed(prose(71), 0.01), "id": "own"},
    ]
    against = {"against": [tmp_path / "older" / "out"]}
    kept = cleaned(
        tmp_path / "newer", newer, ["exact_dedup", "minhash_dedup"], exact_dedup=against, minhash_dedup=against
    )
    assert sorted(kept)[-1] in ("new", "copy") and len(kept) == 2 and {"exact", "near"}.isdisjoint(kept)
    assert len({"base", "own"} & kept.keys()) == 1


def test_an_older_corpus_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"minhash_dedup\.against.*is no output of `clean`"):
        cleaned(tmp_path, [{"text": prose(1)}], ["minhash_dedup"], minhash_dedup={"against": [tmp_path]})


def test_documents_without_the_field_are_told_apart() -> None:
    from datatrove.data import Document

    key = FieldValue("url")
    first, second = (Document(text, "same", metadata={"fields": {}}) for text in ("a", "b"))
    assert key(first) != key(second)
    assert key(Document("a", "x", metadata={"fields": {"url": 7}})) == key(Document("b", "y", metadata={"url": "7"}))


def test_more_lines_than_datatrove_counts_are_no_error() -> None:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import SentDedupConfig

    from data_prep.cleaning.hashing import accept_strings

    accept_strings()
    step = UnitSignature("memory://units", 1, SentDedupConfig(n_sentences=1, split_sentences=False))
    hashes = step.get_hashes(Document("\n".join(map(str, range(70_000))), "x", metadata={}), 0)
    assert len(hashes) == 65_536 and hashes[-1][2] == 65_535
    step.save_hashes(0, hashes)
