import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data_prep_helpers import trained, write_jsonl
from sentence_corpora import write_corpus

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.manifest import TOKEN_COUNTS, CorpusManifest
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import Tokenizer

ALL = 1 << 40
CUTS = (0, 150, 151, 400)


def tokenized(source: Path, tokenizer: Path, output: Path, **settings: object) -> Corpus:
    tokenize(TokenizeConfig(input=[str(source)], tokenizer=tokenizer, output=output, workers=1, **settings))
    return Corpus.open(output)


def write_prefix(corpus: Corpus, prefix: Path, dtype: str) -> Corpus:
    """The documents of a corpus under a prefix, in our shards or, for `megatron`, as Megatron's own builder writes."""
    documents = [shard.document(number) for shard in corpus.shards for number in range(shard.num_documents)]
    if dtype == "megatron":
        import torch
        from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

        builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.uint16)
        for tokens in documents:
            builder.add_document(torch.from_numpy(tokens.astype(np.int64)), [len(tokens)])
        builder.finalize(f"{prefix}.idx")
    else:
        with ShardWriter(prefix, np.dtype(dtype)) as writer:
            for tokens in documents:
                writer.add_document(tokens)
    return Corpus.open(prefix)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, texts, tokenizer_path) -> list[Corpus]:
    """The texts in three corpora, one of several shards, with metadata and, once, without."""
    path = tmp_path_factory.mktemp("parts")
    made = []
    for number, (first, end) in enumerate(pairwise(CUTS)):
        source = write_jsonl(path / f"{number}.jsonl", texts[first:end])
        settings = {"metadata_fields": ["id"]} if number else {}
        made.append(tokenized(source, tokenizer_path, path / f"c{number}", work_unit_bytes=5000, **settings))
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory, text_file, tokenizer_path) -> Corpus:
    return tokenized(text_file, tokenizer_path, tmp_path_factory.mktemp("whole") / "c")


def test_merged_corpora_are_the_tokens_of_the_texts_end_to_end(parts, whole, tmp_path):
    assert len(parts[0].shards) > 1
    merged = merge_corpora(parts, tmp_path / "m", ALL)
    for ending in ("bin", "idx"):
        name = f"shard_00000.{ending}"
        assert (tmp_path / "m" / name).read_bytes() == (whole.path / name).read_bytes()
    assert (tmp_path / "m" / TOKEN_COUNTS).read_bytes() == (whole.path / TOKEN_COUNTS).read_bytes()
    assert merged.fingerprint == whole.fingerprint and merged.text_bytes == whole.text_bytes
    assert [source.documents for source in merged.sources] == [150, 1, 249]
    lines = (tmp_path / "m" / "shard_00000.meta.jsonl").read_bytes().splitlines()
    assert lines[:150] == [b"{}"] * 150 and all(len(line) > 2 for line in lines[150:])
    result = verify_corpus(tmp_path / "m", workers=1)
    assert (result.problems.found, result.documents) == ([], 400)
    assert merge_corpora(parts[::-1], tmp_path / "r", ALL).fingerprint != whole.fingerprint


def test_what_was_left_out_of_each_adds_up(texts, tokenizer_path, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "a"}\n{\n{"text": ""}\n')
    bad = tokenized(tmp_path / "bad.jsonl", tokenizer_path, tmp_path / "b", max_malformed_share=0.5)
    uncounted = Corpus.open(write_corpus(tmp_path / "u", tokenizer_path, [[[text] for text in texts[:9]]], False))
    merged = merge_corpora([uncounted, bad], tmp_path / "m", ALL)
    assert (merged.malformed_records, merged.empty_documents, merged.documents) == (1, 1, 10)
    assert [(s.path, s.documents, s.malformed) for s in merged.sources] == [
        (str(tmp_path / "u"), 9, 0),
        (str(tmp_path / "bad.jsonl"), 1, 1),
    ]
    assert verify_corpus(tmp_path / "m", workers=1).problems.found == []


@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<i8", pytest.param("megatron", marks=pytest.mark.slow)])
def test_prefixes_of_megatron_are_corpora_too(parts, whole, tokenizer_path, tmp_path, dtype):
    prefixes = [write_prefix(part, tmp_path / f"p{n}", dtype) for n, part in enumerate(parts)]
    with pytest.raises(DataError, match="p0: is a bare prefix: no tokenizer lies with it"):
        merge_corpora(prefixes, tmp_path / "m", ALL)
    merged = merge_corpora(prefixes, tmp_path / "m", ALL, tokenizer=tokenizer_path)
    assert merged.fingerprint == whole.fingerprint and merged.text_bytes == whole.text_bytes
    assert verify_corpus(tmp_path / "m", workers=1).problems.found == []
    mixed = merge_corpora([parts[0], prefixes[1], parts[2]], tmp_path / "mixed", ALL)
    assert mixed.fingerprint == whole.fingerprint
    assert verify_corpus(tmp_path / "mixed", workers=1).problems.found == []


def test_ids_and_ends_of_a_prefix_are_checked(parts, tokenizer_path, tmp_path):
    end = parts[0].manifest.end_of_document
    for name, tokens, lengths, problem in (
        ("ids", [5, 60000, end], [3], "token 1 is the id 60000, not in the vocabulary"),
        ("ends", [5, 6, 7, end], [2, 2], "document 0 does not end with the end-of-document id"),
        ("none", [5, 6, 7], [1, 2], f"none: has end_of_document = None, but .*c0 has {end}"),
    ):
        with ShardWriter(tmp_path / name, np.dtype("<u2")) as writer:
            writer.add_documents(np.array(tokens), np.array(lengths))
        with pytest.raises(DataError, match=problem):
            merge_corpora([parts[0], Corpus.open(tmp_path / name)], tmp_path / "m", ALL)
    alone = merge_corpora([Corpus.open(tmp_path / "none")], tmp_path / "m", ALL, tokenizer=tokenizer_path)
    assert alone.end_of_document is None and verify_corpus(tmp_path / "m", workers=1).problems.found == []


def test_one_id_for_both_borders_ends_documents(parts, tokenizer_path, tmp_path, monkeypatch):
    end = parts[0].manifest.end_of_document
    monkeypatch.setattr(Tokenizer, "role", lambda self, name: end)
    with ShardWriter(tmp_path / "p", np.dtype("<u2")) as writer:
        writer.add_documents(np.array([end, 5, 6, end]), np.array([1, 3]))
    merged = merge_corpora([Corpus.open(tmp_path / "p")], tmp_path / "m", ALL, tokenizer=tokenizer_path)
    assert (merged.end_of_document, merged.beginning_of_document) == (end, None)
    assert verify_corpus(tmp_path / "m", workers=1).problems.found == []


def test_corpora_that_differ_are_refused(parts, texts, text_file, tokenizer_path, tmp_path, run):
    other = trained(text_file, tmp_path / "unigram", "unigram").model_path.parent
    source = write_jsonl(tmp_path / "t.jsonl", texts[:20])
    tokenized(source, other, tmp_path / "other")
    tokenized(source, tokenizer_path, tmp_path / "endless", append_end_of_document=False)
    write_corpus(tmp_path / "sentences", tokenizer_path, [[["one.", "two."]]], metadata=False)
    for name, difference in (
        ("other", "has tokenizer_fingerprint = "),
        ("endless", "has end_of_document = None, but"),
        ("sentences", "has sentences = True, but"),
    ):
        status, _, said = run("merge", parts[0].path, tmp_path / name, tmp_path / "m")
        assert status == 2 and f"{tmp_path / name}: {difference}" in said and str(parts[0].path) in said
    status, _, said = run("merge", parts[0].path, tmp_path / "m", "--tokenizer", other)
    assert status == 2 and f"but {other} has" in said
    status, _, said = run("merge", parts[0].path, f"{parts[0].path}/", tmp_path / "m")
    assert status == 2 and "is the same corpus as" in said
    assert not (tmp_path / "m").exists()


def test_merging_on_the_command_line(parts, tmp_path, run):
    status, out, _ = run("merge", *(part.path for part in parts), tmp_path / "m", "--max-shard-bytes", 9000)
    shards = len(Corpus.open(tmp_path / "m").shards)
    assert status == 0 and f"400 documents, {sum(p.num_tokens for p in parts):,} tokens" in out
    assert f"{sum(len(p.shards) for p in parts)} -> {shards} shards" in out and shards > 1


@pytest.mark.slow
def test_a_killed_merge_begins_anew_and_leaves_nothing(parts, whole, tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from data_prep.corpus.corpus import Corpus\n"
        "from data_prep.corpus_tools import merging\n"
        "merging._write_shard = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "merging.merge_corpora([Corpus.open(Path(p)) for p in sys.argv[2:]], Path(sys.argv[1]), 1 << 40)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "m"), *(str(part.path) for part in parts)]
    killed = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".m.tmp-")
    assert merge_corpora(parts, tmp_path / "m", ALL).fingerprint == whole.fingerprint
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_a_corpus_that_lost_metadata_of_a_shard_is_refused(parts, tmp_path):
    path = shutil.copytree(parts[2].path, tmp_path / "c")
    manifest = CorpusManifest.read(path)
    (path / f"{manifest.shards[0].name}.meta.jsonl").unlink()
    entries = [entry.model_copy(update={"metadata_xxh3": None}) for entry in manifest.shards]
    manifest.model_copy(update={"shards": entries}).write(path)
    with pytest.raises(DataError, match=r"meta\.jsonl: is missing\n.* metadata of all shards of a corpus or none"):
        merge_corpora([parts[0], Corpus.open(path)], tmp_path / "m", ALL)
