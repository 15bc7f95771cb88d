"""Which fields of a record are kept beside the cleaned text."""

from __future__ import annotations

from pathlib import Path

import pytest
from cleaning_inputs import write_json_lines
from test_cleaning_readers import read, reasons

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.run import clean
from data_prep.cleaning.shard_files import CleanedWriter


@pytest.mark.parametrize(
    ("record", "text_field", "kept"),
    [
        ({"meta": {"text": "raw", "n": 1}, "m": 2}, "meta.text", {"meta": {"n": 1}, "m": 2}),
        ({"a": {"b": {"text": "raw", "n": 1}, "c": 2}}, "a.b.text", {"a": {"b": {"n": 1}, "c": 2}}),
        ({"meta.text": "raw", "meta": {"text": "other"}}, "meta.text", {"meta": {"text": "other"}}),
        ({"metadata": {"text": "raw", "n": 1}}, "metadata.text", {"n": 1}),
        ({"text": "raw", "is_text": 3}, "text", {"is_text": 3}),
    ],
)
def test_the_raw_text_is_not_kept_and_all_other_fields_are(
    tmp_path: Path, record: dict, text_field: str, kept: dict
) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [record])
    (document,), _ = read(tmp_path, f"sources.s.text_field={text_field}", paths=str(path))
    assert document.text == "raw" and document.metadata == {"source": "s", "fields": kept}


@pytest.mark.parametrize("depth", [150, 250, 600, 990])
def test_a_field_that_is_nested_too_deep_is_malformed(tmp_path: Path, depth: int) -> None:
    deep = '{"text": "deep", "x": ' + "[" * depth + "]" * depth + "}"
    path = write_json_lines(tmp_path / "a.jsonl", [{"text": "one"}, deep, {"text": "two"}])
    documents, counts = read(tmp_path, "tasks=1", "max_malformed_share=0.5", paths=str(path))
    list(CleanedWriter(str(tmp_path / "shards"), None, final=True).run(documents))
    if depth < 200:
        assert [document.text for document in documents] == ["one", "deep", "two"]
        return
    assert [document.text for document in documents] == ["one", "two"]
    assert reasons(counts) == {"malformed: is nested too deep": 1}
    assert counts.stage("read").tally("s").documents_in == 3
    with pytest.raises(DataError, match=r"sources\.s, .*a\.jsonl@16: is nested too deep\n  expected: at most 200"):
        read(tmp_path, "max_malformed_share=0", paths=str(path))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "said"), [("file", "line or paragraph"), ("paragraph", "line"), ("line", None)])
def test_a_text_file_that_is_too_long_is_told_with_what_divides_it(tmp_path: Path, mode: str, said: str | None) -> None:
    (tmp_path / "big.txt").write_text("some words " * 20)
    config = CleanConfig(
        output=tmp_path / "out",
        sources={"s": {"input": str(tmp_path / "big.txt"), "text_documents": mode}},
        stages=[],
        max_document_chars=100,
        tasks=1,
        workers=1,
    )
    with pytest.raises(
        DataError, match=r"keeps none of 1 documents; most were dropped by read: too_long \(1\)"
    ) as caught:
        clean(config)
    line = f"sources.s.text_documents={said} makes documents of the parts of a text file"
    assert (line in str(caught.value.render())) == bool(said)
    assert (line in (tmp_path / "out.partial" / "report.html").read_text()) == bool(said)
