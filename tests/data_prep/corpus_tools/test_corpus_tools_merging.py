import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xxhash
from data_prep_helpers import make_text
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_corpora import write_corpus, write_shard

from configs.errors import DataError, MachineError
from data_prep.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest, ShardEntry
from data_prep.corpus.shard_pieces import IndexPieces
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools import merging
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.tokenizer import load_tokenizer

TEXTS = [
    [[f"{make_text(n)} sentence {k}." for k in range(1 + n % 4)] for n in range(first, first + 40)]
    for first in (0, 40, 80)
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tokenizer_path) -> Corpus:
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("m") / "corpus", tokenizer_path, TEXTS))


def finish_corpus(path: Path, tokenizer_path: Path, entries: list[ShardEntry], counts: np.ndarray) -> None:
    """Put beside shards what makes a corpus of them."""
    tokenizer = load_tokenizer(tokenizer_path)
    shutil.copytree(tokenizer_path, path / "tokenizer")
    np.save(path / "token_counts.npy", counts)
    values = {"created_by": "t", "dtype": "uint16", "vocab_size": tokenizer.vocab_size, "end_of_document": None}
    values |= {"sentences": True, "tokenizer_fingerprint": tokenizer.fingerprint, "text_bytes": 0, "shards": entries}
    CorpusManifest.model_validate(values).write(path)


def rewrite_entry(path: Path, number: int, **values: object) -> None:
    manifest = CorpusManifest.read(path)
    manifest.shards[number] = manifest.shards[number].model_copy(update=values)
    manifest.write(path)


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


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "shards"), [(1 << 40, 1), (4000, None), (1, 120)])
def test_the_documents_stay_what_they_are(corpus, tmp_path, limit, shards):
    entries = merge_corpora([corpus], tmp_path / "merged", limit).shards
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
    before = corpus.manifest.model_dump(exclude={"shards", "created_by"})
    assert merged.manifest.model_dump(exclude={"shards", "created_by"}) == before


def test_merging_all_into_one_is_what_one_shard_would_have_been(corpus, tokenizer_path, tmp_path):
    merge_corpora([corpus], tmp_path / "merged", 1 << 40)
    flat = [[document for documents in TEXTS for document in documents]]
    whole = write_corpus(tmp_path / "whole", tokenizer_path, flat)
    for name in ("shard_00000.bin", "shard_00000.idx", "shard_00000.meta.jsonl", "token_counts.npy"):
        assert (tmp_path / "merged" / name).read_bytes() == (whole / name).read_bytes()
    assert Corpus.open(tmp_path / "merged").fingerprint == Corpus.open(whole).fingerprint


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    shards=st.lists(
        st.lists(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=3), max_size=8), min_size=1, max_size=3
    ),
    limit=st.integers(1, 60),
    piece=st.integers(1, 4),
)
def test_any_shape_of_corpus(tmp_path_factory, tokenizer_path, shards, limit, piece):
    from data_prep.corpus import shard_pieces

    path = tmp_path_factory.mktemp("any")
    entries = [write_shard(path / "c" / f"s{number}", documents) for number, documents in enumerate(shards)]
    ids = [token for documents in shards for sequences in documents for sequence in sequences for token in sequence]
    finish_corpus(path / "c", tokenizer_path, entries, np.bincount(np.array(ids, dtype=np.int64), minlength=420))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_pieces, "DOCUMENTS_PER_PIECE", piece)
        merged = merge_corpora([Corpus.open(path / "c")], path / "m", limit).shards
    again = Corpus.open(path / "m")
    assert content(again) == [document for documents in shards for document in documents]
    assert all(entry.bin_bytes <= limit or entry.documents >= 1 for entry in merged)
    assert all(entry.bin_bytes <= limit or np.count_nonzero(shard.document_lengths) == 1
               for entry, shard in zip(merged, again.shards))  # fmt: skip


def test_nothing_is_left_when_it_fails(corpus, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging._Source, "copy_documents", full)
    with pytest.raises(MachineError, match="No space left"):
        merge_corpora([corpus], tmp_path / "merged", 1 << 40)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match="is a bare prefix"):
        merge_corpora([Corpus.open(corpus.shards[0].prefix)], tmp_path / "m", 1 << 40)
    with pytest.raises(DataError, match="is the corpus that is merged"):
        merge_corpora([corpus], corpus.path, 1 << 40, overwrite=True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other things"):
        merge_corpora([corpus], tmp_path / "m", 1 << 40, overwrite=True)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["notes.txt"]


def test_metadata_that_does_not_fit_is_refused(tokenizer_path, tmp_path):
    for number, damage in enumerate(("missing", "short")):
        path = write_corpus(tmp_path / f"c{number}", tokenizer_path, TEXTS)
        lines = path / "shard_00001.meta.jsonl"
        lines.unlink() if damage == "missing" else lines.write_text('{"n": 1}\n')
        with pytest.raises(DataError, match=r"shard_00001\.meta\.jsonl"):
            merge_corpora([Corpus.open(path)], tmp_path / "m", 1 << 40)
        assert not (tmp_path / "m").exists()


def test_a_shard_with_modes_is_refused(tokenizer_path, tmp_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, TEXTS[:1], metadata=False)
    index = path / "shard_00000.idx"
    sequences = int.from_bytes(index.read_bytes()[18:26], "little")
    index.write_bytes(index.read_bytes() + bytes(sequences))
    hashed = xxhash.xxh3_128_hexdigest(index.read_bytes())
    rewrite_entry(path, 0, idx_bytes=index.stat().st_size, idx_xxh3=hashed)
    with pytest.raises(DataError, match="mode for each sequence"):
        merge_corpora([Corpus.open(path)], tmp_path / "m", 1 << 40)


def patch(path: Path, at: int, data: bytes) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + data + raw[at + len(data) :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap_ids(path: Path) -> None:
    tokens = np.fromfile(path / "shard_00002.bin", dtype="<u2")
    other = int(np.flatnonzero(tokens != tokens[0])[0])
    tokens[[0, other]] = tokens[[other, 0]]
    tokens.tofile(path / "shard_00002.bin")


def swap_counts(path: Path) -> None:
    counts = np.load(path / "token_counts.npy")
    counts[[5, 300]] += [1, -1]
    np.save(path / "token_counts.npy", counts)


def move_a_document(path: Path) -> None:
    """Give a sequence to the document before: an index in order, but not the one that was written."""
    index, bounds = path / "shard_00001.idx", IndexPieces(Corpus.open(path).shards[1]).bounds(0, 41)
    number = int(np.flatnonzero(np.diff(bounds) > 1)[1])
    patch(index, index.stat().st_size - 8 * (41 - number), struct.pack("<q", int(bounds[number]) + 1))


def note_metadata(path: Path, change: Callable[[Path], object]) -> None:
    """Change metadata whose hash the manifest knows."""
    lines = path / "shard_00001.meta.jsonl"
    rewrite_entry(path, 1, metadata_xxh3=xxhash.xxh3_128_hexdigest(lines.read_bytes()))
    change(lines)


DAMAGE = {
    "two ids": (swap_ids, "shard_00002.bin: has the hash"),
    "an id": (lambda c: patch(c / "shard_00001.bin", 14, b"\x50\xc3"), "shard_00001.bin: token 7 is the id 50000"),
    "offset": (lambda c: patch(c / "shard_00000.idx", 34 + 4 * 100, b"\x07" * 8), "shard_00000.idx: has the hash"),
    "lengths": (lambda c: patch(c / "shard_00000.idx", 34, struct.pack("<q", 2)), "shard_00000.idx: has the hash"),
    "document": (move_a_document, "shard_00001.idx: has the hash"),
    "cut tokenizer": (lambda c: cut(c / "tokenizer" / "tokenizer.model"), "tokenizer/tokenizer.model: "),
    "no tokenizer": (lambda c: shutil.rmtree(c / "tokenizer"), "/tokenizer: there is no"),
    "cut counts": (lambda c: cut(c / "token_counts.npy"), "token_counts.npy: "),
    "no counts": (lambda c: (c / "token_counts.npy").unlink(), "token_counts.npy: cannot be read"),
    "counts": (swap_counts, "token_counts.npy: says"),
    "metadata": (lambda c: note_metadata(c, lambda m: patch(m, 5, b"9")), "shard_00001.meta.jsonl: has the hash"),
    "no metadata": (lambda c: note_metadata(c, Path.unlink), "shard_00001.meta.jsonl: is missing"),
    "more metadata": (
        lambda c: (c / "shard_00001.meta.jsonl").open("ab").write(b"{}\n"),
        "shard_00001.meta.jsonl: has 41 lines for 40",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_damaged_is_not_merged(corpus, tmp_path, run, case):
    damage, expected = DAMAGE[case]
    path = shutil.copytree(corpus.path, tmp_path / "c")
    damage(path)
    status, _, said = run("merge", path, tmp_path / "m")
    assert status == 2 and expected in said and "written: " not in said
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_that_all_shards_have_lost_is_missed(tokenizer_path, tmp_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, TEXTS[:1])
    (path / "shard_00000.meta.jsonl").unlink()
    rewrite_entry(path, 0, metadata_xxh3="0" * 32)
    with pytest.raises(DataError, match=r"meta\.jsonl: is missing"):
        merge_corpora([Corpus.open(path)], tmp_path / "m", 1 << 40)


@pytest.mark.slow
def test_memory_is_flat_in_the_size(tokenizer_path, tmp_path):
    peaks = []
    tokens = np.tile(np.arange(100, dtype="<u2"), 20_000)
    for times in (1, 8):
        path = tmp_path / f"c{times}"
        with ShardWriter(path / "shard_00000", np.dtype("<u2")) as writer:
            for _ in range(times):
                writer.add_documents(tokens, np.full(20_000, 100))
        names = ("bin_bytes", "idx_bytes", "bin_xxh3", "idx_xxh3")
        entry = ShardEntry(
            name="shard_00000",
            documents=writer.num_documents,
            tokens=writer.num_tokens,
            **{name: getattr(writer, name) for name in names},
        )
        finish_corpus(path, tokenizer_path, [entry], np.bincount(tokens, minlength=420) * times)
        script = (
            "import sys; from pathlib import Path; from data_prep.corpus.corpus import Corpus\n"
            "from data_prep.corpus_tools.merging import merge_corpora\n"
            "merge_corpora([Corpus.open(Path(sys.argv[1]))], Path(sys.argv[2]), 10_000_000)\n"
            "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", script, str(path), str(tmp_path / f"m{times}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 20_000, peaks
