"""Which fields of a record are kept beside the cleaned text."""

from __future__ import annotations

from pathlib import Path

import pytest
from cleaning_inputs import write_json_lines
from test_cleaning_readers import read


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
