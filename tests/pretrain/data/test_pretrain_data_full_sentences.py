from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from pretrain.config.sampling import FULL_SENTENCES, SampleCutting, SentenceSampleCutting
from pretrain.data import full_sentences
from pretrain.data.documents import Documents
from pretrain.data.epoch_cuttings import CUTTINGS
from pretrain.data.full_sentences import FullSentences
from pretrain.data.samples import Samples
from tests.pretrain.data.sentence_shards import (
    END,
    FIRST_TEXT_ID,
    SentenceCorpus,
    Sizes,
    random_sizes,
    write_sentences,
)

ROOM = 40
SAMPLING = SampleCutting(FULL_SENTENCES, ROOM, marks_documents=True)


def rows_of(
    source: SentenceCorpus, *, seed: int = 1, endless: bool = True, in_memory: int = 1000, room: int = ROOM
) -> FullSentences:
    cache = source.corpus.path / "index"
    documents = Documents(source.corpus, "all", (1.0, 0.0, 0.0), cache, in_memory_documents=in_memory)
    return FullSentences(source.corpus, documents, SampleCutting(FULL_SENTENCES, room), seed, endless=endless)


def read(index: FullSentences, begin: int, end: int) -> Samples:
    numbers = np.arange(begin, end)
    samples = Samples.empty(numbers, SAMPLING)
    index.read_into(numbers, samples, numbers - begin)
    return samples


def pieces(source: SentenceCorpus, index: FullSentences) -> tuple[list[list[int]], list[int]]:
    """The ids of each piece of a sentence that has room by itself, and its document."""
    ids, documents, first = [], [], 10
    lengths = iter(np.diff(index._table.start).tolist())
    for size, document in zip(source.sizes.tolist(), source.document.tolist()):
        parts = [next(lengths) for _ in range(-(-size // ROOM))]
        assert sum(parts) == size and max(parts) - min(parts) <= 1
        for length in parts:
            ids.append(list(range(first, first + length)))
            documents.append(document)
            first += length
    return ids, documents


def packed(ids: list[list[int]], documents: list[int], order: list[int]) -> list[list[int]]:
    """The samples of an epoch as the paper says it, sentence after sentence."""
    samples: list[list[int]] = []
    row: list[int] = []
    before = None
    for document in order:
        for sentence, of in zip(ids, documents):
            if of != document:
                continue
            between = [END] if row and before != document else []
            if row and len(row) + len(between) + len(sentence) > ROOM:
                samples.append(row)
                row, between = [], []
            row = row + between + sentence
            before = document
    return [*samples, row]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 90), min_size=0, max_size=6), min_size=1, max_size=12).filter(
        lambda documents: any(documents)
    ),
    shards=st.integers(1, 2),
    block=st.sampled_from([1, 3, 1 << 16]),
)
@example(sizes=[[40], [39], [1]], shards=1, block=1)
@example(sizes=[[20, 20], [20, 19, 1]], shards=1, block=1 << 16)
def test_samples_are_as_many_whole_sentences_as_have_room(
    sizes: Sizes, shards: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = write_sentences(tmp_path_factory.mktemp("c"), sizes, shards=min(shards, len(sizes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_sentences, "_BLOCK_DOCUMENTS", block)
        index = rows_of(source)
        samples = read(index, 0, index.num_samples_per_epoch)
    ids, documents = pieces(source, index)
    with_text = sorted(set(documents))
    order = [with_text[number] for number in index.cutting(0)["order"].tolist()]
    expected = packed(ids, documents, order)
    found = [row[:length].tolist() for row, length in zip(samples.tokens, samples.num_tokens.tolist())]
    assert sorted(found) == sorted(expected)
    assert all(not row[length:].any() for row, length in zip(samples.tokens, samples.num_tokens.tolist()))
    first_ids = {min(i for piece, of in zip(ids, documents) if of == document for i in piece) for document in with_text}
    assert samples.document_starts is not None
    assert set(samples.tokens[samples.document_starts].tolist()) == first_ids


def test_every_epoch_reads_each_sentence_once_in_another_order(tmp_path: Path) -> None:
    source = write_sentences(tmp_path, random_sizes(60), shards=2)
    index = rows_of(source)
    orders, begin = [], 0
    for epoch in range(CUTTINGS + 2):
        count = index.num_samples(index.cutting(epoch % CUTTINGS))
        samples = read(index, begin, begin + count)
        text = samples.tokens[samples.tokens > END]
        assert sorted(text.tolist()) == list(range(10, 10 + int(source.sizes.sum())))
        orders.append(text.tolist())
        begin += count
    assert len({tuple(order) for order in orders}) == len(orders)


def test_any_sample_is_the_same_whoever_asks(tmp_path: Path) -> None:
    source = write_sentences(tmp_path, random_sizes(60))
    in_order = read(rows_of(source), 0, 300)
    shuffled = np.random.default_rng(0).permutation(300)
    for index in (rows_of(source), rows_of(source, in_memory=0)):
        samples = Samples.empty(shuffled, SAMPLING)
        index.read_into(shuffled, samples, np.arange(300))
        assert np.array_equal(samples.tokens, in_order.tokens[shuffled])
        assert np.array_equal(samples.num_tokens, in_order.num_tokens[shuffled])
    assert not np.array_equal(read(rows_of(source, seed=2), 0, 300).tokens, in_order.tokens)
    for number in range(20):
        lengths = [origin.num_tokens for origin in rows_of(source).origins(number)]
        assert sum(lengths) == in_order.num_tokens[number]


def test_an_evaluation_reads_one_epoch_again_and_again(tmp_path: Path) -> None:
    index = rows_of(write_sentences(tmp_path, random_sizes(30)), endless=False)
    count = index.num_samples_per_epoch
    assert np.array_equal(read(index, 0, count).tokens, read(index, count, 2 * count).tokens)


def test_it_says_how_full_the_samples_are(tmp_path: Path) -> None:
    index = rows_of(write_sentences(tmp_path, [[30], [30], [20, 19]]))
    assert index.notes() == [
        f"{tmp_path}: 3 samples of 4 whole sentences in the first epoch, 82% of their room is text"
    ]


def test_corpora_that_cannot_be_cut_so_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no sentence boundaries.*sentences=true"):
        rows_of(write_sentences(tmp_path / "plain", [[3]], sentences=False))
    with pytest.raises(ValueError, match="a sample needs a sentence"):
        rows_of(write_sentences(tmp_path / "empty", [[]]))


def test_the_beginnings_of_sentences_are_told(tmp_path: Path) -> None:
    source = write_sentences(tmp_path / "c", random_sizes(60), shards=2)
    index = rows_of(source)
    numbers = np.arange(2 * index.num_samples_per_epoch)
    samples = Samples.empty(numbers, SentenceSampleCutting(FULL_SENTENCES, ROOM, marks_documents=True))
    index.read_into(numbers, samples, numbers)
    assert samples.sentence_starts is not None and samples.document_starts is not None
    first_ids = set((FIRST_TEXT_ID + np.cumsum(source.sizes) - source.sizes).tolist())
    pieces = 0
    for row, length in enumerate(samples.num_tokens.tolist()):
        tokens, starts = samples.tokens[row, :length], samples.sentence_starts[row]
        assert starts[0] and not starts[length:].any() and not starts[:length][tokens == END].any()
        assert starts[:length][samples.document_starts[row, :length]].all()
        told, are_first = starts[:length], np.isin(tokens, [*first_ids])
        assert told[are_first].all()
        # What else is told is a piece of a sentence that is too long for a sample.
        for token in tokens[told & ~are_first].tolist():
            pieces += 1
            assert source.sizes[source.sentence[token - FIRST_TEXT_ID]] > ROOM
    assert pieces > 0 and np.array_equal(samples.rows(3, 5).sentence_starts, samples.sentence_starts[3:5])
    assert read(index, 0, 3).sentence_starts is None
