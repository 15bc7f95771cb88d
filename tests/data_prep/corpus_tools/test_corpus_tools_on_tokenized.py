"""The tools on what `tokenize` really writes: metadata beside the shards, several sources, several shards."""

from pathlib import Path

import orjson
import pytest

from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus_tools.inspection import decoder_of, search_corpus, show_document
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.corpus_tools.statistics import as_json, gather
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding.tokenization import tokenize


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tokenizer_path, texts) -> Corpus:
    directory = tmp_path_factory.mktemp("tokenized")
    for name, part in (("a", texts[:250]), ("b", texts[250:])):
        rows = [{"text": text, "title": f"{name}{n}", "n": n} for n, text in enumerate(part)]
        (directory / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    tokenize(
        TokenizeConfig(
            input=[str(directory / "a.jsonl"), str(directory / "b.jsonl")],
            tokenizer=tokenizer_path,
            output=directory / "corpus",
            metadata_fields=["title", "n"],
            work_unit_bytes=12_000,
            workers=1,
        )
    )
    return Corpus.open(directory / "corpus")


def test_all_is_as_it_should_be(corpus):
    result = verify_corpus(corpus.path, workers=1)
    assert list(map(str, result.problems.found)) == [] and len(corpus.shards) > 1


def test_each_document_has_its_metadata(corpus, texts):
    tokenizer = decoder_of(corpus)
    for number in (0, 249, 250, 399):
        shown = show_document(corpus, number, tokenizer)
        name, n = ("a", number) if number < 250 else ("b", number - 250)
        assert shown.sentences == [texts[number]]
        assert (shown.metadata["title"], shown.metadata["n"]) == (f"{name}{n}", n)
    (match,) = search_corpus(corpus, "\n333\t!", limit=5, workers=1)
    assert match.number == 333


def test_sources_are_counted(corpus, texts):
    first, second = as_json(gather(corpus))["sources"]
    assert (first["documents"], second["documents"]) == (250, 150)
    assert first["tokens"] + second["tokens"] == corpus.num_tokens
    assert first["text_bytes"] == sum(len(text.encode()) for text in texts[:250])


def test_a_merged_corpus_has_the_same_metadata(corpus, tmp_path: Path):
    merge_corpora([corpus], tmp_path / "m", 1 << 40)
    assert verify_corpus(tmp_path / "m", workers=1).problems.count == 0
    merged = Corpus.open(tmp_path / "m")
    before, after = (decoder_of(c) for c in (corpus, merged))
    for number in (0, 251, 399):
        one, other = show_document(corpus, number, before), show_document(merged, number, after)
        assert (one.metadata, one.sentences) == (other.metadata, other.sentences)
    counts = gather(corpus).counts
    assert (gather(merged).counts == counts).all() and counts.sum() == corpus.num_tokens
