import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from kneser_ney_oracle import Oracle

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.split import PARTS, part_of_documents
from data_prep.ngram.ngram import ngram_floor, read_floor, report_path, write_report
from data_prep.ngram.ngram_documents import read_part
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import load_tokenizer

SPLIT = (0.8, 0.1, 0.1)
ALL = {"max_tokens": 10**9, "max_held_out_tokens": 10**9}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, text_file, tokenizer_path) -> Corpus:
    output = tmp_path_factory.mktemp("ngram") / "corpus"
    settings = {"work_unit_bytes": 31000, "workers": 1}
    tokenize(TokenizeConfig(input=[str(text_file)], tokenizer=tokenizer_path, output=output, **settings))
    return Corpus.open(output)


def documents_of(corpus: Corpus, part: str) -> list[list[int]]:
    documents = [shard.document(n).tolist() for shard in corpus.shards for n in range(shard.num_documents)]
    parts = part_of_documents(np.arange(len(documents)), SPLIT)
    return [document for document, found in zip(documents, parts) if PARTS[found] == part and document]


def test_the_figures_are_those_of_the_definition(corpus):
    report = ngram_floor(corpus, max_order=4, split=SPLIT, **ALL)
    training, held_out = documents_of(corpus, "train"), documents_of(corpus, "validation")
    assert (report.training.documents, report.training.tokens) == (len(training), sum(map(len, training)))
    assert (report.held_out.documents, report.held_out.tokens) == (len(held_out), sum(map(len, held_out)))
    token_bytes = load_tokenizer(corpus.tokenizer_path).token_bytes()
    sizes = sum(int(token_bytes[document].sum()) for document in held_out)
    assert report.held_out_bytes == sizes
    for score in report.scores:
        oracle = Oracle(training, score.order, corpus.vocab_size)
        expected = [-math.log(p) for document in held_out for p in oracle.probabilities(document)]
        assert score.loss_nats == pytest.approx(sum(expected) / len(expected), rel=1e-9)
        assert report.bits_per_byte(score) == pytest.approx(sum(expected) / math.log(2) / sizes)
    assert report.best.loss_nats == min(score.loss_nats for score in report.scores) < report.scores[0].loss_nats


def test_the_report_is_written_and_read(corpus, tmp_path):
    report = ngram_floor(corpus, max_order=2, split=SPLIT, **ALL)
    write_report(report, tmp_path / "n.json")
    data = json.loads((tmp_path / "n.json").read_text())
    assert [row["order"] for row in data["orders"]] == [1, 2] and data["method"] == "modified Kneser-Ney"
    assert data["orders"][1]["perplexity"] == pytest.approx(math.exp(data["orders"][1]["loss_nats"]))
    assert data["training"]["fingerprint"] == corpus.fingerprint and data["vocab_size"] == 420
    assert report_path(corpus) == corpus.path / "ngram.json" and read_floor(corpus) is None
    text = "\n".join(report.lines())
    assert f"{report.best.loss_nats:.4f}" in text and "train part" in text and "validation part" in text
    assert "even sample" not in text


def test_a_limit_takes_an_even_sample_and_says_so(corpus):
    whole, _ = read_part(corpus, "train", SPLIT, 10**9, 420)
    some, chosen = read_part(corpus, "train", SPLIT, 5000, 420)
    assert 3500 < chosen.tokens < 6500 and chosen.tokens == some.num_tokens and chosen.documents == some.documents
    assert chosen.available_tokens == whole.num_tokens
    assert "an even sample of" in str(chosen)
    again, _ = read_part(corpus, "train", SPLIT, 5000, 420)
    assert np.array_equal(some.tokens, again.tokens)
    documents = ["".join(map(chr, d)) for d in documents_of(corpus, "train")]
    cut = np.split(some.tokens, np.flatnonzero(some.tokens == 420))[1:]
    assert all("".join(map(chr, document[1:].tolist())) in documents for document in cut)


def test_another_corpus_is_predicted_whole(corpus, tmp_path, tokenizer_path, texts):
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps({"text": text[::-1]}) + "\n" for text in texts[:50]))
    tokenize(TokenizeConfig(input=[str(source)], tokenizer=tokenizer_path, output=tmp_path / "other", workers=1))
    other = Corpus.open(tmp_path / "other")
    report = ngram_floor(corpus, max_order=2, split=SPLIT, validation=other, **ALL)
    assert report.held_out.tokens == other.num_tokens and report.held_out.part == "all"
    assert report.training.tokens == sum(map(len, documents_of(corpus, "train")))
    own = ngram_floor(corpus, max_order=2, split=SPLIT, **ALL)
    assert report.best.loss_nats > own.best.loss_nats
    # The training corpus itself means what is held out of it, as in pretraining.
    same = ngram_floor(corpus, max_order=2, split=SPLIT, validation=corpus, **ALL)
    assert same.scores == own.scores


def test_a_bare_prefix_has_the_vocabulary_that_it_shows(tmp_path):
    generator = np.random.default_rng(0)
    with ShardWriter(tmp_path / "bare", np.dtype("<i4")) as writer:
        for _ in range(300):
            writer.add_document(generator.integers(0, 8, 20).astype("<i4"))
        writer.add_document(np.array([9, 0, 0], dtype="<i4"))
    report = ngram_floor(Corpus.open(tmp_path / "bare"), max_order=2, split=SPLIT, **ALL)
    assert report.vocab_size == 10 and report.held_out_bytes is None
    assert report.scores[0].loss_nats == pytest.approx(math.log(8), abs=0.05)
    assert "unknown" in "\n".join(report.lines())
    assert report_path(Corpus.open(tmp_path / "bare")) == tmp_path / "bare.ngram.json"


def test_what_cannot_be_counted_is_one_error(corpus, tmp_path, tokenizer_path):
    with ShardWriter(tmp_path / "tiny", np.dtype("<i4")) as writer:
        writer.add_document(np.array([5, 6], dtype="<i4"))
    tiny = Corpus.open(tmp_path / "tiny")
    with pytest.raises(DataError, match="part has no tokens"):
        ngram_floor(tiny, max_order=2, split=SPLIT, **ALL)
    with pytest.raises(DataError, match="no document fits 1 tokens"):
        ngram_floor(corpus, max_order=2, split=SPLIT, max_tokens=1, max_held_out_tokens=9)
    with ShardWriter(tmp_path / "wrong", np.dtype("<i4")) as writer:
        writer.add_documents(np.full(300, 999, dtype="<i4"), np.full(100, 3))
    with pytest.raises(DataError, match=r"wrong\.bin: holds the id 999"):
        ngram_floor(Corpus.open(tmp_path / "wrong"), max_order=2, split=SPLIT, tokenizer=tokenizer_path, **ALL)


def test_two_tokenizers_are_refused(corpus, tmp_path):
    manifest = json.loads((corpus.path / "manifest.json").read_text()) | {"tokenizer_fingerprint": "other"}
    (tmp_path / "c").mkdir()
    for file in Path(corpus.path).iterdir():
        if file.is_file():
            (tmp_path / "c" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="was made with the tokenizer other"):
        ngram_floor(corpus, max_order=2, split=SPLIT, validation=Corpus.open(tmp_path / "c"), **ALL)


@pytest.mark.parametrize("what", ["", "shard_00000", "--validation"])
def test_a_damaged_index_is_refused(corpus, tmp_path, run, what):
    damaged = shutil.copytree(corpus.path, tmp_path / "c")
    index = bytearray((damaged / "shard_00000.idx").read_bytes())
    index[34:42] = struct.pack("<q", 2)
    (damaged / "shard_00000.idx").write_bytes(index)
    whole = shutil.copytree(corpus.path, tmp_path / "whole")
    arguments = (whole, "--validation", damaged) if what == "--validation" else (damaged / what,)
    status, _, said = run("ngram", *arguments)
    assert status == 2 and "shard_00000.idx: sequence 1 begins at byte" in said and "verify" in said
    assert list(tmp_path.rglob("*ngram.json")) == []
