from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain_data_corpora import VOCAB_SIZE, random_lengths, write_corpus

from configs.errors import DataError
from data_prep.corpus import Corpus
from data_prep.corpus.split import part_of_documents
from pretrain.config import SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.data.documents import Documents
from pretrain.data.stream import SampleStream
from pretrain.data.token_stream import TokenStream

SPLIT = (0.8, 0.1, 0.1)


def stream_of(
    paths: list[Path],
    *,
    seq_length: int = 16,
    seed: int = 1,
    part: str = "train",
    endless: bool = True,
    weights: list[float] | None = None,
    vocab_size: int = VOCAB_SIZE,
) -> SampleStream:
    parts = []
    sampling = SampleCutting(TOKEN_STREAM, seq_length, overlap_tokens=1)
    for path in paths:
        corpus = Corpus.open(path)
        documents = Documents(corpus, part, SPLIT, path / "index")
        parts.append(TokenStream(corpus, documents, sampling, seed, endless=endless))
    return SampleStream("train", parts, weights or [1.0] * len(paths), sampling, vocab_size)


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    seq_length=st.integers(1, 50),
    seed=st.integers(0, 1000),
    shards=st.integers(1, 3),
)
def test_each_token_is_a_label_once_per_epoch_and_nothing_is_missing_between_epochs(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seq_length: int, seed: int, shards: int
) -> None:
    if sum(lengths) <= seq_length:
        return
    path = write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, shards=shards)
    stream = stream_of([path], part="all", seq_length=seq_length, seed=seed)
    num_tokens, epochs = sum(lengths), 3
    row = np.concatenate([whole_epoch(stream, seed, epoch) for epoch in range(epochs + 1)])
    # Which samples begin in which epoch follows from lengths alone; within an epoch their order is free.
    borders = [-(-epoch * num_tokens // seq_length) for epoch in range(epochs + 1)]
    for first, end in pairwise(borders):
        pieces = [row[k * seq_length : (k + 1) * seq_length + 1].tolist() for k in range(first, end)]
        assert sorted(stream.samples(np.arange(first, end)).tolist()) == sorted(pieces)


def whole_epoch(stream: SampleStream, seed: int, epoch: int) -> np.ndarray:
    """The tokens of an epoch, after a check that they are every document once, each in one piece."""
    corpus = stream.parts[0].corpus
    order = stream.parts[0].documents.order(epoch, seed, corpus.fingerprint)
    tokens = np.concatenate([shard.tokens for shard in corpus.shards])
    documents = [tokens[at : at + n] for at, n in zip(order["source"], np.diff(order["start"]))]
    lengths = [n for shard in corpus.shards for n in shard.document_lengths.tolist() if n]
    first_tokens = np.cumsum([0, *lengths])[:-1].tolist()
    assert sorted((int(d[0]), len(d)) for d in documents) == list(zip(first_tokens, lengths))
    return np.concatenate(documents)


def test_samples_follow_the_documents_and_join_where_one_ends(tmp_path: Path) -> None:
    lengths = random_lengths(80, seed=3)
    stream = stream_of([write_corpus(tmp_path / "c", lengths, shards=3)], part="all")
    ends = set(np.cumsum(lengths).tolist())
    for number in range(2 * stream.num_samples_per_epoch):
        sample = stream.sample(number)
        breaks = np.flatnonzero(np.diff(sample) != 1)
        # Where the next token is not the neighbour in the corpus, a document ended and another begins.
        assert {int(sample[i]) + 1 for i in breaks} <= ends
        assert {int(sample[i + 1]) for i in breaks} <= ends | {0}


def test_the_last_label_of_a_piece_is_the_first_token_of_the_next(tmp_path: Path) -> None:
    stream = stream_of([write_corpus(tmp_path / "c", random_lengths(80))], part="all")
    samples = stream.samples(np.arange(stream.num_samples_per_epoch))
    firsts, lasts = sorted(samples[:, 0].tolist()), sorted(samples[:, -1].tolist())
    # As one row: all but one piece begins where another ends.
    assert len(set(firsts) & set(lasts)) >= len(firsts) - 1


def test_document_and_sample_orders_change_from_epoch_to_epoch_and_with_the_seed(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [10] * 64)
    stream = stream_of([path], part="all", seq_length=10)
    first, second = stream.samples(np.arange(64)), stream.samples(np.arange(64, 128))
    assert np.array_equal(np.sort(first[:, 0]), np.sort(second[:, 0]))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, stream_of([path], part="all", seq_length=10, seed=2).samples(np.arange(64)))
    assert not np.array_equal(first[:, 0], np.sort(first[:, 0]))
    # The documents are laid out anew, too: other neighbours, so the next document's first token differs.
    follows = [dict(zip(samples[:, 0].tolist(), samples[:, -1].tolist())) for samples in (first, second)]
    assert sum(follows[0][token] == follows[1][token] for token in follows[0]) < 10


@given(numbers=st.lists(st.integers(0, 10**9), min_size=1, max_size=30), company=st.integers(0, 100))
@settings(max_examples=12)
def test_a_sample_depends_on_nothing_but_its_number(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], company: int
) -> None:
    root = tmp_path_factory.mktemp("corpora")
    paths = [
        write_corpus(root / "a", random_lengths(50)),
        write_corpus(root / "b", random_lengths(30, seed=1), first_token=50_000),
    ]
    together = stream_of(paths, weights=[0.7, 0.3]).samples(numbers)
    fresh = stream_of(paths, weights=[0.7, 0.3])
    fresh.samples([company])
    for sample, number in zip(together, numbers):
        assert np.array_equal(fresh.sample(number), sample)


def test_a_billion_samples_in_costs_no_more_than_the_first(tmp_path: Path) -> None:
    stream = stream_of([write_corpus(tmp_path / "c", random_lengths(500))], part="all")
    assert stream.samples(np.arange(10**9, 10**9 + 64)).shape == (64, 17)


def test_a_mixture_takes_from_each_corpus_what_its_weight_says(tmp_path: Path) -> None:
    paths = [
        write_corpus(tmp_path / "a", random_lengths(100)),
        write_corpus(tmp_path / "b", random_lengths(100), first_token=50_000),
    ]
    tokens = stream_of(paths, weights=[3, 1]).samples(np.arange(400))
    assert np.mean(tokens[:, 0] >= 50_000) == 0.25
    # Within one corpus nothing depends on the other.
    of_b = tokens[tokens[:, 0] >= 50_000]
    assert np.array_equal(of_b, stream_of(paths[1:]).samples(np.arange(100)))


def test_parts_share_no_document_and_cover_all(tmp_path: Path) -> None:
    lengths = random_lengths(2000, at_most=20)
    path = write_corpus(tmp_path / "c", lengths)
    corpus = Corpus.open(path)
    sources = {part: Documents(corpus, part, SPLIT, tmp_path).source for part in ("train", "validation", "test", "all")}
    together = np.concatenate([sources["train"], sources["validation"], sources["test"]])
    assert np.array_equal(np.sort(together), sources["all"])
    assert len(sources["all"]) == np.count_nonzero(lengths)
    assert abs(len(sources["validation"]) / len(sources["all"]) - 0.1) < 0.03
    train = stream_of([path]).samples(np.arange(500))
    held_out = stream_of([path], part="validation", endless=False)
    validation = held_out.samples(np.arange(held_out.num_samples))
    assert not set(train.ravel().tolist()) & set(validation.ravel().tolist()) - {0}


def test_appended_documents_and_other_shard_borders_leave_the_split_alone() -> None:
    before, after = (part_of_documents(np.arange(n), SPLIT) for n in (500, 5000))
    assert np.array_equal(before, after[:500])
    assert set(part_of_documents(np.arange(5000), (1.0, 0.0, 0.0)).tolist()) == {0}
    assert 2 not in part_of_documents(np.arange(5000), (0.7, 0.3, 0.0))


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), seq_length=st.integers(1, 50))
def test_an_evaluation_stream_counts_each_token_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seq_length: int
) -> None:
    if sum(lengths) < 2:
        return
    path = write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths)
    stream = stream_of([path], part="all", endless=False, seq_length=seq_length)
    assert stream.num_samples is not None
    samples = stream.read(np.arange(stream.num_samples + 5))
    counting = np.arange(seq_length) < samples.num_tokens[:, None] - 1
    labels = samples.tokens[:, 1:][counting]
    assert len(labels) == len(set(labels.tolist())) == sum(lengths) - 1
    assert samples.num_tokens[stream.num_samples :].tolist() == [0] * 5
    assert (samples.num_tokens[: stream.num_samples] > 1).all()


def test_an_evaluation_mixture_keeps_its_weights_until_every_corpus_was_read(tmp_path: Path) -> None:
    paths = [write_corpus(tmp_path / "a", [100]), write_corpus(tmp_path / "b", [400], first_token=1000)]
    stream = stream_of(paths, part="all", endless=False, seq_length=10)
    assert stream.num_samples == 80
    samples = stream.read(np.arange(80))
    assert np.sum(samples.tokens[:, 0] >= 1000) == 40
    labels = samples.tokens[:, 1:][np.arange(10) < samples.num_tokens[:, None] - 1]
    assert set(range(1001, 1400)) | set(range(1, 100)) == set(labels.tolist())


def test_provenance_names_shard_document_and_place(tmp_path: Path) -> None:
    lengths = random_lengths(60)
    path = write_corpus(tmp_path / "c", lengths, shards=3)
    stream = stream_of([path], part="all")
    shards = {shard.prefix: shard for shard in Corpus.open(path).shards}
    for number in (0, 7, 31):
        read = [
            shards[origin.shard].document(origin.document, origin.offset_tokens, origin.num_tokens)
            for origin in stream.provenance(number)
        ]
        assert np.array_equal(np.concatenate(read), stream.sample(number))


def test_a_token_outside_the_vocabulary_is_traced_to_its_document(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [30, 30, 30], shards=3)
    stream = stream_of([path], part="all", vocab_size=89)
    with pytest.raises(DataError, match=r"shard-2: document 0 has the id 89 at its token 29") as caught:
        stream.samples(np.arange(10))
    assert "ids from 0 to 88" in str(caught.value)


def test_a_negative_sample_number_is_an_error(tmp_path: Path) -> None:
    stream = stream_of([write_corpus(tmp_path / "c", [30])], part="all")
    with pytest.raises(IndexError):
        stream.sample(-1)
