"""Rows of tables that are broken, in the counts of cleaning."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cleaning_readers import read, reasons


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
