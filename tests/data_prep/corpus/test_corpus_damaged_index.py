"""Every command that walks documents refuses an index that would give it other documents' tokens."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from data_prep_helpers import make_text
from sentence_corpora import write_corpus

_LENGTHS_AT, _SEQUENCES = 34, 150


@pytest.fixture(params=["bounds", "offsets far away", "offsets out of order"])
def corpus(request, tmp_path, tokenizer_path) -> Path:
    texts = [[[make_text(number)] for number in range(_SEQUENCES)]]
    path = write_corpus(tmp_path / "corpus", tokenizer_path, texts)
    offsets_at = _LENGTHS_AT + 4 * _SEQUENCES
    at, value = {
        "bounds": (offsets_at + 8 * _SEQUENCES + 8 * 70, 1 << 40),
        "offsets far away": (offsets_at + 8 * 70, 1 << 40),
        "offsets out of order": (offsets_at + 8 * 70, 0),
    }[request.param]
    with (path / "shard_00000.idx").open("r+b") as index:
        index.seek(at)
        index.write(struct.pack("<q", value))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("stats", "CORPUS"),
        ("inspect", "CORPUS", "--document", 69),
        ("inspect", "CORPUS", "--document", 70),
        ("inspect", "CORPUS", "--search", "model"),
        ("mix", "--corpus", "CORPUS,weight=1", "--budget", "1M", "--output", "OUTPUT"),
        ("merge", "CORPUS", "OUTPUT"),
    ],
    ids=lambda command: " ".join(map(str, command[:4])),
)
def test_a_damaged_index_is_one_error(run, corpus, tmp_path, command):
    output = tmp_path / "output"
    status, _, err = run(*(str(part).replace("CORPUS", str(corpus)).replace("OUTPUT", str(output)) for part in command))
    assert status == 2 and err.count("error: ") == 1 and "Traceback" not in err
    assert "shard_00000.idx" in err
    assert not output.exists()
