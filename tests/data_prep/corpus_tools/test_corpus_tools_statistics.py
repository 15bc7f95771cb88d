import json
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_corpora import write_corpus

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus_tools.lengths import LengthHistogram
from data_prep.corpus_tools.statistics import as_json, describe_statistics, gather, write_json
from data_prep.corpus_tools.statistics_plot import write_plot
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, text_file, tokenizer_path) -> Corpus:
    output = tmp_path_factory.mktemp("stats") / "corpus"
    settings = {"work_unit_bytes": 31000, "workers": 1}
    tokenize(TokenizeConfig(input=[str(text_file)], tokenizer=tokenizer_path, output=output, **settings))
    return Corpus.open(output)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(0, 300), st.integers(0, 1 << 40)), min_size=1, max_size=60),
    share=st.floats(0, 1),
)
def test_quantiles_are_those_of_the_sorted_lengths(lengths, share):
    histogram = LengthHistogram()
    for part in np.array_split(np.array(lengths), 3):
        histogram.add(part)
    wanted = sorted(lengths)[max(0, int(np.ceil(share * len(lengths))) - 1)]
    found = histogram.quantile(share)
    assert found == wanted if wanted < 1 << 16 else wanted * (1 - 1 / 1024) <= found <= wanted
    assert (histogram.documents, histogram.longest) == (len(lengths), max(lengths))
    assert histogram.tokens == sum(lengths) or sum(lengths) > 1 << 52


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=60))
def test_doublings_hold_every_document_once(lengths):
    histogram = LengthHistogram()
    for part in np.array_split(np.array(lengths), 2):
        histogram.add(part)
    rows = histogram.doublings()
    for low, high, documents, tokens in rows:
        inside = [length for length in lengths if low <= length <= high]
        assert (documents, tokens) == (len(inside), sum(inside))
    assert sum(row[2] for row in rows) == len(lengths) and rows[0][2] > 0 and rows[-1][2] > 0
    assert all(before[1] + 1 == after[0] for before, after in pairwise(rows))


def test_the_figures_are_those_of_the_corpus(corpus, texts):
    stats = gather(corpus)
    data = as_json(stats)
    lengths = np.concatenate([shard.document_lengths for shard in corpus.shards])
    counts = corpus.token_counts()
    assert (data["documents"], data["tokens"], data["sequences"]) == (len(texts), int(lengths.sum()), len(texts))
    assert data["text_bytes"] == sum(len(text.encode()) for text in texts)
    assert data["document_tokens"]["mean"] == pytest.approx(lengths.mean())
    assert data["document_tokens"]["quantiles"]["0.5"] == sorted(lengths)[len(texts) // 2 - 1]
    assert data["document_tokens"]["quantiles"]["1"] == lengths.max()
    assert data["vocabulary"] == {"ids": 420, "known": True, "unused": int((counts == 0).sum())}
    assert data["unigram_entropy_nats"] == pytest.approx(corpus.unigram_entropy_nats())
    top = data["top_tokens"]
    assert [row["count"] for row in top] == sorted(counts.tolist(), reverse=True)[:20]
    tokenizer = load_tokenizer(corpus.tokenizer_path)
    assert all(row["piece"] == tokenizer.piece(row["id"]) and row["count"] == counts[row["id"]] for row in top)
    assert [row["tokens"] for row in data["shards"]] == [shard.num_tokens for shard in corpus.shards]
    (source,) = data["sources"]
    assert (source["documents"], source["tokens"]) == (len(texts), corpus.num_tokens)
    assert source["path"].endswith("text.jsonl") and source["malformed"] == 0


def test_the_text_says_the_same(corpus):
    stats = gather(corpus, top=3)
    text = "\n".join(describe_statistics(stats, 3))
    for expected in (
        f"{stats.documents:,}, {stats.tokens:,} tokens",
        f"{stats.entropy_nats:.4f} nats",
        f"{int(stats.counts.max()):,}",
        "shard_00001",
        "text.jsonl",
        "p50",
        "unused",
    ):
        assert expected in text, text
    assert text.count("#") > 40 and len(stats.spelled) == 3


def test_sources_show_their_counts_when_they_have_them(corpus):
    stats = gather(corpus)
    counted = [{"path": f"{n}.jsonl", "bytes": n, "documents": n, "tokens": 7 * n} for n in range(1, 31)]
    text = "\n".join(describe_statistics(type(stats)(**{**vars(stats), "sources": counted})))
    assert "sources, the largest 20 of 30" in text and "210  30.jsonl" in text and " 1.jsonl" not in text


def test_files_are_written(corpus, tmp_path):
    stats = gather(corpus)
    write_json(stats, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(json.dumps(as_json(stats)))
    write_plot(stats, tmp_path / "s.png")
    from PIL import Image

    with Image.open(tmp_path / "s.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
        dark = sum(pixel < 160 for pixel in picture.convert("L").tobytes()) / (picture.width * picture.height)
        assert 0.02 < dark < 0.7  # bars and text on white


@pytest.mark.slow
def test_sources_without_a_font_are_numbered_in_the_picture(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    stats = gather(corpus)
    sources = [{"path": name, "bytes": 7} for name in ("a/新闻.jsonl", "b/新闻.jsonl", "news.jsonl")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plot(type(stats)(**{**vars(stats), "sources": sources}), tmp_path / "s.png")
    assert "#2 新闻.jsonl, #3 新闻.jsonl" in capsys.readouterr().err
    write_plot(stats, tmp_path / "s.png")
    assert capsys.readouterr().err == ""


def test_a_bare_prefix_and_an_empty_corpus(tmp_path, tokenizer_path):
    with ShardWriter(tmp_path / "bare", np.dtype("<u2")) as writer:
        writer.add_document(np.array([5, 5, 9], dtype="<u2"))
    data = as_json(gather(Corpus.open(tmp_path / "bare")))
    assert data["vocabulary"] == {"ids": 10, "known": False, "unused": 8}
    assert data["top_tokens"] == [{"id": 5, "piece": None, "count": 2}, {"id": 9, "piece": None, "count": 1}]
    spelled = as_json(gather(Corpus.open(tmp_path / "bare"), tokenizer_path))
    assert spelled["vocabulary"]["ids"] == 420 and spelled["top_tokens"][0]["piece"]
    with ShardWriter(tmp_path / "none", np.dtype("<u2")):
        pass
    stats = gather(Corpus.open(tmp_path / "none"))
    assert "documents  0, 0 tokens" in "\n".join(describe_statistics(stats))
    write_plot(stats, tmp_path / "none.png")


def test_sentences_are_counted(tmp_path, tokenizer_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, [[["one.", " two."], ["three."]]])
    assert "documents  2 of 3 sequences" in "\n".join(describe_statistics(gather(Corpus.open(path))))


def test_damage_is_one_error(tmp_path):
    with ShardWriter(tmp_path / "bare", np.dtype("<i4")) as writer:
        writer.add_document(np.array([5, -5], dtype="<i4"))
    with pytest.raises(DataError, match=r"bare\.bin: holds the token id -5"):
        gather(Corpus.open(tmp_path / "bare"))
    assert list(Path(tmp_path).glob("*.tmp*")) == []
