import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools.verification import verify_corpus


def problems(path: Path, **options: object) -> list[str]:
    return [str(problem) for problem in verify_corpus(path, workers=1, **options).problems.found]  # type: ignore[arg-type]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path / "bare", np.dtype("<i4")) as writer:
        for document in ([5, 6, 2], [7, 2], [8]):
            writer.add_document(np.array(document, dtype="<i4"))
    return tmp_path / "bare"


def test_a_bare_prefix(prefix, tokenizer_path):
    for path in (prefix, prefix.with_suffix(".bin"), prefix.with_suffix(".idx")):
        assert problems(path) == []
    ends = problems(prefix, end_of_document=2)
    assert len(ends) == 1 and "document 2 does not end with the end-of-document id (token 5)" in ends[0]
    assert problems(prefix, tokenizer=tokenizer_path) == ends
    tokens = np.fromfile(prefix.with_suffix(".bin"), dtype="<i4")
    tokens[1] = -3
    tokens.tofile(prefix.with_suffix(".bin"))
    assert any("token 1 is the id -3" in problem for problem in problems(prefix))


def test_a_huge_prefix_is_read_in_stretches(tmp_path, monkeypatch):
    from data_prep.corpus import shard_check
    from data_prep.corpus_tools import verification

    generator = np.random.default_rng(0)
    with ShardWriter(tmp_path / "long", np.dtype("<u2")) as writer:
        for number in range(300):
            length = int(generator.integers(1, 90)) if number != 7 else 2500
            writer.add_document(np.append(generator.integers(3, 50, length), 2).astype("<u2"))
    monkeypatch.setattr(verification, "_STRETCH_TOKENS", 1000)
    monkeypatch.setattr(shard_check, "TOKENS_PER_PIECE", 64)
    assert problems(tmp_path / "long", end_of_document=2) == []
    tokens = np.fromfile(tmp_path / "long.bin", dtype="<u2")
    ends = np.flatnonzero(tokens == 2)
    tokens[ends[[6, 7, 250]]] = 9
    tokens[ends[100] + 1] = 2
    tokens.tofile(tmp_path / "long.bin")
    found = problems(tmp_path / "long", end_of_document=2)
    assert [int(p.split("document ")[1].split()[0]) for p in found if "does not end" in p] == [6, 7, 250]
    assert [p for p in found if "within" in p] == [
        f"{tmp_path}/long.bin: token {int(ends[100]) + 1:,} is the end-of-document id within a document"
    ]
    assert len(found) == 4


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
def test_an_empty_document_is_named(tmp_path, monkeypatch, piece):
    from data_prep.corpus import shard_check

    # Wherever it lies: at the beginning, in the middle of what is read at a time, or where that begins or ends.
    monkeypatch.setattr(shard_check, "TOKENS_PER_PIECE", piece)
    with ShardWriter(tmp_path / "e", np.dtype("<u2")) as writer:
        writer.add_documents(np.array([4, 2, 5, 2], dtype="<u2"), np.array([0, 2, 0, 2, 0]))
    found = problems(tmp_path / "e", end_of_document=2)
    assert [text.split(": ", 1)[1].split(",")[0] for text in found] == [f"document {n} is empty" for n in (0, 2, 4)]


def test_several_sequences_in_a_document(tmp_path):
    with ShardWriter(tmp_path / "s", np.dtype("<u2")) as writer:
        writer.add_documents(np.array([4, 5, 6, 2, 7, 2], dtype="<u2"), np.array([2, 2, 2]), np.array([2, 1]))
    assert problems(tmp_path / "s", end_of_document=2) == []
    assert len(problems(tmp_path / "s", end_of_document=5)) == 3


SCRIPT = """
import resource, sys
from pathlib import Path
from data_prep.corpus_tools.verification import verify_corpus
print(verify_corpus(Path(sys.argv[1]), end_of_document=2, workers=1).problems.count)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_size(tmp_path):
    peaks = []
    tokens = np.random.default_rng(0).integers(3, 9000, 4_000_000).astype("<u2")
    tokens[99::100] = 2
    for name, times in (("small", 1), ("large", 10)):
        with ShardWriter(tmp_path / name, np.dtype("<u2")) as writer:
            for _ in range(times):
                writer.add_documents(tokens, np.full(40_000, 100))
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        count, peak = done.stdout.split()
        assert count == "0", done.stderr
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] + 20_000, peaks
