import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from data_prep_helpers import make_text
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_corpora import write_corpus, write_shard

from configs.errors import DataError, MachineError
from data_prep import merging
from data_prep.corpus import Corpus
from data_prep.manifest import Manifest
from data_prep.merging import merge_corpus
from data_prep.shard_pieces import IndexPieces
from data_prep.shard_writer import ShardWriter
from data_prep.verification import verify_corpus

TEXTS = [
    [[f"{make_text(n)} sentence {k}." for k in range(1 + n % 4)] for n in range(first, first + 40)]
    for first in (0, 40, 80)
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tokenizer_path) -> Corpus:
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("m") / "corpus", tokenizer_path, TEXTS))


def content(corpus: Corpus) -> list[list[list[int]]]:
    """Every document as its sequences."""
    documents = []
    for shard in corpus.shards:
        index = IndexPieces(shard)
        bounds = index.bounds(0, index.num_documents + 1).tolist()
        starts = (index.offsets(0, index.num_sequences) // shard.dtype.itemsize).tolist()
        lengths = index.lengths(0, index.num_sequences).tolist()
        sequences = [shard.tokens[s : s + n].tolist() for s, n in zip(starts, lengths)]
        documents += [sequences[a:b] for a, b in pairwise(bounds)]
    return documents


def lines_of(corpus: Corpus) -> bytes:
    paths = [shard.prefix.with_name(f"{shard.prefix.name}.meta.jsonl") for shard in corpus.shards]
    return b"".join(path.read_bytes() for path in paths)


@pytest.mark.parametrize(("limit", "shards"), [(1 << 40, 1), (4000, None), (1, 120)])
def test_the_documents_stay_what_they_are(corpus, tmp_path, limit, shards):
    entries = merge_corpus(corpus, tmp_path / "merged", limit)
    merged = Corpus.open(tmp_path / "merged")
    assert content(merged) == content(corpus) and lines_of(merged) == lines_of(corpus)
    result = verify_corpus(tmp_path / "merged", workers=1)
    assert list(map(str, result.problems.found)) == [] and result.documents == 120
    assert len(entries) == (shards or len(entries)) and entries[0].name == "shard_00000"
    if limit == 4000:
        assert len(entries) > 3 and all(entry.bin_bytes <= 4000 for entry in entries)
        # None could have taken the next document, too.
        pairs = zip(merged.shards, merged.shards[1:])
        assert all(2 * (a.num_tokens + int(b.document_lengths[0])) > 4000 for a, b in pairs)
    before = corpus.manifest.model_dump(exclude={"shards"})
    assert merged.manifest.model_dump(exclude={"shards"}) == before


def test_merging_all_into_one_is_what_one_shard_would_have_been(corpus, tokenizer_path, tmp_path):
    merge_corpus(corpus, tmp_path / "merged", 1 << 40)
    flat = [[document for documents in TEXTS for document in documents]]
    whole = write_corpus(tmp_path / "whole", tokenizer_path, flat)
    for name in ("shard_00000.bin", "shard_00000.idx", "shard_00000.meta.jsonl", "token_counts.npy"):
        assert (tmp_path / "merged" / name).read_bytes() == (whole / name).read_bytes()
    assert Corpus.open(tmp_path / "merged").fingerprint == Corpus.open(whole).fingerprint


@settings(max_examples=25, deadline=None)
@given(
    shards=st.lists(
        st.lists(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=3), max_size=8), min_size=1, max_size=3
    ),
    limit=st.integers(1, 60),
    piece=st.integers(1, 4),
)
def test_any_shape_of_corpus(tmp_path_factory, shards, limit, piece):
    from data_prep import shard_pieces

    path = tmp_path_factory.mktemp("any")
    entries = [write_shard(path / "c" / f"s{number}", documents) for number, documents in enumerate(shards)]
    (path / "c" / "tokenizer").mkdir()
    np.save(path / "c" / "token_counts.npy", np.zeros(10, dtype=np.int64))
    values = {"created_by": "t", "dtype": "uint16", "vocab_size": 10, "end_of_document": None}
    values |= {"tokenizer_fingerprint": "f", "text_bytes": 0, "shards": entries}
    Manifest.model_validate(values).write(path / "c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_pieces, "DOCUMENTS_PER_PIECE", piece)
        merged = merge_corpus(Corpus.open(path / "c"), path / "m", limit)
    again = Corpus.open(path / "m")
    assert content(again) == [document for documents in shards for document in documents]
    assert all(entry.bin_bytes <= limit or entry.documents >= 1 for entry in merged)
    assert all(entry.bin_bytes <= limit or np.count_nonzero(shard.document_lengths) == 1
               for entry, shard in zip(merged, again.shards))  # fmt: skip


def test_nothing_is_left_when_it_fails(corpus, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "_copy_documents", full)
    with pytest.raises(MachineError, match="No space left"):
        merge_corpus(corpus, tmp_path / "merged", 1 << 40)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match="is a bare prefix"):
        merge_corpus(Corpus.open(corpus.shards[0].prefix), tmp_path / "m", 1 << 40)
    with pytest.raises(DataError, match="is the corpus that is merged"):
        merge_corpus(corpus, corpus.path, 1 << 40, overwrite=True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other things"):
        merge_corpus(corpus, tmp_path / "m", 1 << 40, overwrite=True)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["notes.txt"]


def test_metadata_that_does_not_fit_is_refused(tokenizer_path, tmp_path):
    for number, damage in enumerate(("missing", "short")):
        path = write_corpus(tmp_path / f"c{number}", tokenizer_path, TEXTS)
        lines = path / "shard_00001.meta.jsonl"
        lines.unlink() if damage == "missing" else lines.write_text('{"n": 1}\n')
        with pytest.raises(DataError, match=r"shard_00001\.meta\.jsonl"):
            merge_corpus(Corpus.open(path), tmp_path / "m", 1 << 40)
        assert not (tmp_path / "m").exists()


def test_a_shard_with_modes_is_refused(tokenizer_path, tmp_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, TEXTS[:1], metadata=False)
    index = path / "shard_00000.idx"
    sequences = int.from_bytes(index.read_bytes()[18:26], "little")
    index.write_bytes(index.read_bytes() + bytes(sequences))
    with pytest.raises(DataError, match="mode for each sequence"):
        merge_corpus(Corpus.open(path), tmp_path / "m", 1 << 40)


def test_memory_is_flat_in_the_size(tmp_path):
    peaks = []
    tokens = np.tile(np.arange(100, dtype="<u2"), 20_000)
    for times in (1, 8):
        path = tmp_path / f"c{times}"
        with ShardWriter(path / "shard_00000", np.dtype("<u2")) as writer:
            for _ in range(times):
                writer.add_documents(tokens, np.full(20_000, 100))
        (path / "tokenizer").mkdir()
        np.save(path / "token_counts.npy", np.zeros(100, dtype=np.int64))
        sizes = [(path / f"shard_00000.{kind}").stat().st_size for kind in ("bin", "idx")]
        entry = {"name": "shard_00000", "documents": writer.num_documents, "tokens": writer.num_tokens}
        entry |= {"bin_bytes": sizes[0], "idx_bytes": sizes[1], "bin_xxh3": "", "idx_xxh3": ""}
        values = {"created_by": "t", "dtype": "uint16", "vocab_size": 100, "end_of_document": None}
        Manifest.model_validate(values | {"tokenizer_fingerprint": "f", "text_bytes": 0, "shards": [entry]}).write(path)
        script = (
            "import sys; from pathlib import Path; from data_prep.corpus import Corpus\n"
            "from data_prep.merging import merge_corpus\n"
            "merge_corpus(Corpus.open(Path(sys.argv[1])), Path(sys.argv[2]), 10_000_000)\n"
            "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", script, str(path), str(tmp_path / f"m{times}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 20_000, peaks
