"""Deduplication by address, by sentence and line, and against what was cleaned before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cleaning_inputs import changed, prose, write_json_lines
from test_cleaning_pipeline import documents_of

from configs.errors import DataError
from data_prep.cleaning.comparison import FieldValue, UnitSignature
from data_prep.cleaning.config import CleanConfig
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
