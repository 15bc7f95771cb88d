import numpy as np
import pytest
from data_prep_helpers import make_text
from sentence_corpora import write_corpus

from configs.errors import DataError
from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools import inspection
from data_prep.corpus_tools.inspection import (
    decoder_of,
    describe_corpus,
    random_documents,
    search_corpus,
    show_document,
)

TEXTS = [
    [[f"{make_text(n)}", f" and the needle {n}."] if n % 30 == 7 else [make_text(n)] for n in range(first, first + 60)]
    for first in (0, 60)
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tokenizer_path) -> Corpus:
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("i") / "corpus", tokenizer_path, TEXTS))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tokenizer_path) -> Corpus:
    texts = [[[make_text(n)] for n in range(9)]]
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("i") / "plain", tokenizer_path, texts, metadata=False))


def test_sentences_and_metadata_are_shown(corpus, plain):
    tokenizer = decoder_of(corpus)
    shown = show_document(corpus, 67, tokenizer)
    assert shown.sentences == TEXTS[1][7] and shown.metadata == {"n": 67, "title": "t67"}
    assert shown.heading().startswith("== document 67 (shard_00001, ") and "2 sentences" in shown.heading()
    assert shown.text().splitlines()[0] == 'metadata: {"n":67,"title":"t67"}'
    assert "\n[1]  and the needle 67." in shown.text() and shown.tokens > 10
    alone = show_document(plain, 3, decoder_of(plain))
    assert alone.metadata is None and alone.text() == make_text(3) and "sentences" not in alone.heading()


def test_the_description_counts_sentences(corpus, plain):
    assert "sentences        124" in describe_corpus(
        corpus
    ) and "metadata         beside the shards" in describe_corpus(corpus)
    assert not any("sentences" in line or "metadata" in line for line in describe_corpus(plain))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_finds_every_document_that_contains_the_text(corpus, monkeypatch, workers):
    monkeypatch.setattr(inspection, "_SEARCH_TOKENS", 100)
    found = list(search_corpus(corpus, "the needle", limit=9, workers=workers))
    assert [match.number for match in found] == [7, 37, 67, 97]
    assert [match.shard for match in found] == ["shard_00000"] * 2 + ["shard_00001"] * 2
    assert "and »the needle« 67." in str(found[2]) and found[2].times == 1


def test_a_search_stops_at_its_limit_and_crosses_borders_of_sentences(corpus):
    assert [match.number for match in search_corpus(corpus, "needle", limit=3, workers=1)] == [7, 37, 67]
    assert [match.number for match in search_corpus(corpus, "! and the", limit=9, workers=1)] == [7, 37, 67, 97]
    assert list(search_corpus(corpus, "NEEDLE", limit=9, workers=1)) == []
    assert len(list(search_corpus(corpus, "NEEDLE", limit=9, ignore_case=True, workers=1))) == 4
    assert list(search_corpus(corpus, "[", limit=9, workers=1)) == []  # a text, not a pattern


def test_an_excerpt_is_cut_and_on_one_line(tmp_path, tokenizer_path):
    text = "x" * 200 + "\n\nneedle\n" + "y" * 200 + " needle"
    path = write_corpus(tmp_path / "c", tokenizer_path, [[[text]]])
    (match,) = search_corpus(Corpus.open(path), "needle", limit=1, workers=1)
    assert match.excerpt == f"...{'x' * 58} »needle« {'y' * 59}..." and match.times == 2
    assert str(match).startswith("document 0 (shard_00000, 2 times): ...x")


def test_random_documents_are_those_of_the_seed(corpus):
    first = random_documents(corpus, 10, 1)
    assert first == random_documents(corpus, 10, 1) == sorted(set(first)) and len(first) == 10
    assert first != random_documents(corpus, 10, 2)
    assert random_documents(corpus, 500, 0) == list(range(120))


def test_what_cannot_be_shown_is_one_error(corpus, tmp_path, tokenizer_path):
    tokenizer = decoder_of(corpus)
    for number in (-1, 120):
        with pytest.raises(DataError, match=f"there is no document {number}"):
            show_document(corpus, number, tokenizer)
    with ShardWriter(tmp_path / "bare", np.dtype("<i4")) as writer:
        writer.add_document(np.array([5, -1], dtype="<i4"))
    bare = Corpus.open(tmp_path / "bare")
    with pytest.raises(DataError, match="has no tokenizer with it"):
        list(search_corpus(bare, "x", limit=1))
    with pytest.raises(DataError, match="token id -1: this is not its tokenizer"):
        list(search_corpus(bare, "x", limit=1, tokenizer=tokenizer_path, workers=1))


def test_an_empty_corpus_shows_nothing(tmp_path):
    with ShardWriter(tmp_path / "none", np.dtype("<u2")):
        pass
    with pytest.raises(DataError, match="has no documents"):
        random_documents(Corpus.open(tmp_path / "none"), 3, 0)


def test_metadata_that_ends_early_is_one_error(tmp_path, tokenizer_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, TEXTS)
    (path / "shard_00000.meta.jsonl").write_text('{"n": 0}\n')
    opened = Corpus.open(path)
    assert show_document(opened, 0, decoder_of(opened)).metadata == {"n": 0}
    with pytest.raises(DataError, match=r"shard_00000\.meta\.jsonl: has no JSON object in line 2"):
        show_document(opened, 1, decoder_of(opened))
