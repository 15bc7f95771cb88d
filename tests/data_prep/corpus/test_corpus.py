import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs.errors import DataError
from data_prep.config import SourceConfig, TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools.inspection import decode_document, describe_corpus
from data_prep.reading.inputs import find_files
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory, text_file, tokenizer_path) -> Path:
    output = tmp_path_factory.mktemp("corpora") / "corpus"
    settings = {"work_unit_bytes": 20000, "workers": 1}
    tokenize(TokenizeConfig(input=[str(text_file)], tokenizer=tokenizer_path, output=output, **settings))
    return output


@pytest.fixture
def corpus_path(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "corpora" / "corpus")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path / "bare_text_document", np.dtype("<u2")) as writer:
        for document in ([1, 2, 2], [2], [5, 1]):
            writer.add_document(np.array(document, dtype="<u2"))
    return tmp_path / "bare_text_document"


def test_a_bare_prefix(prefix):
    corpus = Corpus.open(prefix)
    assert (corpus.num_documents, corpus.num_tokens, len(corpus.shards)) == (3, 6, 1)
    assert corpus.token_counts().tolist() == [0, 2, 3, 0, 0, 1]
    shares = [2 / 6, 3 / 6, 1 / 6]
    assert corpus.unigram_entropy_nats() == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert corpus.tokenizer_path is corpus.tokenizer_fingerprint is corpus.vocab_size is corpus.text_bytes is None
    assert Corpus.open(prefix.with_suffix(".bin")).fingerprint == corpus.fingerprint


def test_the_counts_on_disk_are_those_of_the_tokens(made):
    corpus = Corpus.open(made)
    assert np.array_equal(corpus.token_counts(), corpus.count_tokens())
    assert corpus.token_counts().sum() == corpus.num_tokens
    assert 0 < corpus.unigram_entropy_nats() < math.log(corpus.vocab_size)


def fingerprint_at(path: Path) -> str:
    return Corpus.open(path).fingerprint


def test_the_fingerprint_is_of_the_content_not_of_the_place(made, corpus_path, prefix, tmp_path, tokenizer_path):
    assert Corpus.open(made).fingerprint == Corpus.open(corpus_path).fingerprint
    before = Corpus.open(prefix).fingerprint
    with ShardWriter(tmp_path / "other", np.dtype("<u2")) as writer:
        writer.add_documents(np.arange(6, dtype="<u2"), np.array([2, 2, 2]))
    assert Corpus.open(tmp_path / "other").fingerprint != before
    source = tmp_path / "t.jsonl"
    prints = set()
    for text in ("one text", "one test"):
        source.write_text(f'{{"text": "{text}"}}\n')
        tokenize(TokenizeConfig(input=[str(source)], tokenizer=tokenizer_path, output=tmp_path / text))
        prints.add(Corpus.open(tmp_path / text).fingerprint)
    assert len(prints) == 2
    manifest = Corpus.open(made).manifest
    other = {"tokenizer_fingerprint": "another", "vocab_size": 999, "end_of_document": None, "sources": []}
    changed = {
        key
        for key, value in other.items()
        if manifest.model_copy(update={key: value}).fingerprint != fingerprint_at(made)
    }
    assert changed == {"tokenizer_fingerprint", "vocab_size", "end_of_document"}


def test_the_nearest_corpus_is_named(corpus_path, tmp_path):
    for wrong in (corpus_path.with_name("corpsu"), tmp_path / "corpora" / "x" / "corpus"):
        with pytest.raises(DataError) as error:
            Corpus.open(wrong)
        assert "there is no such corpus" in str(error.value) and f"did you mean: {corpus_path}" in str(error.value)


def test_directories_that_go_while_they_are_looked_through_cost_the_hint_alone(tmp_path, monkeypatch):
    def gone(self, pattern):
        raise FileNotFoundError(2, "No such file or directory", str(self / "gone"))

    monkeypatch.setattr(Path, "glob", gone)
    monkeypatch.setattr(Path, "iterdir", lambda self: gone(self, "*"))
    with pytest.raises(DataError, match="there is no such corpus"):
        Corpus.open(tmp_path / "corpus")
    with pytest.raises(DataError, match="there is no such tokenizer"):
        load_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(DataError, match="there is no such input"):
        find_files(SourceConfig(input=[str(tmp_path / "text.jsonl")]))


def test_a_directory_that_is_no_corpus_names_what_is_in_it(prefix):
    with pytest.raises(DataError) as error:
        Corpus.open(prefix.parent)
    assert "is not a corpus" in str(error.value) and f"did you mean: {prefix}" in str(error.value)


BROKEN = {
    "missing shard": (lambda c: (c / "shard_00001.bin").unlink(), "shard_00001.bin: is missing"),
    "missing index": (lambda c: (c / "shard_00001.idx").unlink(), "shard_00001.idx: is missing"),
    "truncated": (lambda c: (c / "shard_00000.bin").write_bytes(b"12"), "shard_00000.bin: holds 2 bytes, truncated"),
    "other shard": (lambda c: [shutil.copy(c / f"shard_00001.{x}", c / f"shard_00000.{x}") for x in ("bin", "idx")],
                    "as the manifest says"),
    "manifest not JSON": (lambda c: (c / "manifest.json").write_text("{"), "manifest.json: is not JSON"),
    "manifest version": (lambda c: (c / "manifest.json").write_text('{"format_version": 9}'), "version 9"),
    "manifest lacks": (lambda c: (c / "manifest.json").write_text('{"format_version": 1}'), "created_by: Field"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_corpus_is_refused_when_opened(corpus_path, case):
    breakage, expected = BROKEN[case]
    breakage(corpus_path)
    with pytest.raises(DataError) as error:
        Corpus.open(corpus_path)
    assert expected in str(error.value) and len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("content", [None, b"", b"not numpy"])
def test_damaged_token_counts(corpus_path, content):
    path = corpus_path / "token_counts.npy"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"token_counts\.npy: (cannot be read|is damaged)"):
        Corpus.open(corpus_path).token_counts()


def test_token_counts_of_another_corpus(corpus_path):
    np.save(corpus_path / "token_counts.npy", np.ones(420, dtype=np.int64))
    with pytest.raises(DataError, match="holds 420 ids and 420 tokens"):
        Corpus.open(corpus_path).token_counts()


def test_inspection_names_counts_and_decodes(made, texts, prefix, tokenizer_path):
    corpus = Corpus.open(made)
    lines = "\n".join(describe_corpus(corpus))
    for expected in (f"{len(texts):,}", f"{corpus.num_tokens:,}", f"{corpus.unigram_entropy_nats():.4f} nats", "p50"):
        assert expected in lines
    assert decode_document(corpus, 0) == texts[0] and decode_document(corpus, 399) == texts[399]
    with pytest.raises(DataError, match="there is no document 400"):
        decode_document(corpus, 400)
    bare = Corpus.open(prefix)
    assert "6" in "\n".join(describe_corpus(bare))
    with pytest.raises(DataError, match="has no tokenizer with it"):
        decode_document(bare, 0)
    assert decode_document(bare, 0, load_tokenizer(tokenizer_path)) == ""


def test_a_tokenizer_that_is_too_small_for_the_corpus(tmp_path, tokenizer_path):
    with ShardWriter(tmp_path / "big", np.dtype("<u2")) as writer:
        writer.add_document(np.array([50000], dtype="<u2"))
    with pytest.raises(DataError, match="token id 50000: this is not its tokenizer"):
        decode_document(Corpus.open(tmp_path / "big"), 0, load_tokenizer(tokenizer_path))
