from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain_data_corpora import VOCAB_SIZE, random_lengths, write_corpus

from configs.errors import DataError
from data_prep.corpus import Corpus
from pretrain.config import SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.data.batch import MicroBatch
from pretrain.data.documents import Documents
from pretrain.data.loader import BatchLoader
from pretrain.data.samples import Samples
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.data.token_stream import TokenStream
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.objective import ObjectiveContext

SEQ_LENGTH = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("corpus") / "c", random_lengths(200), shards=2))


def stream_of(corpus: Corpus, *, endless: bool = True, vocab_size: int = VOCAB_SIZE) -> SampleStream:
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), Path("unused"))
    sampling = SampleCutting(TOKEN_STREAM, SEQ_LENGTH, overlap_tokens=1, marks_documents=True)
    part = TokenStream(corpus, documents, sampling, 1, endless=endless)
    return SampleStream("train", [part], [1.0], sampling, vocab_size)


def causal(*, documents_apart: bool = False) -> CausalObjective:
    model = GPTConfig(num_layers=1, hidden_size=8, num_attention_heads=1, seq_length=SEQ_LENGTH)
    context = ObjectiveContext(model, TokenFacts(VOCAB_SIZE), seed=1, documents_apart=documents_apart)
    return CausalObjective(CausalConfig(), context)


def assert_equal(left: MicroBatch, right: MicroBatch) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


@settings(max_examples=25)
@given(
    data_size=st.integers(1, 5),
    micro_batch_size=st.integers(1, 3),
    micro_batches=st.integers(1, 3),
    consumed=st.integers(0, 500),
    prefetch=st.integers(0, 2),
)
def test_every_layout_reads_the_same_numbered_micro_batches(
    corpus: Corpus, data_size: int, micro_batch_size: int, micro_batches: int, consumed: int, prefetch: int
) -> None:
    stream, objective = stream_of(corpus), causal(documents_apart=True)
    size = data_size * micro_batch_size * micro_batches
    alone = BatchLoader(stream, objective, micro_batch_size)
    for begin in (consumed, consumed + size):
        single = alone.global_batch(begin, size)
        assert [batch.number for batch in single] == list(range(data_size * micro_batches))
        for rank in range(data_size):
            with BatchLoader(stream, objective, micro_batch_size, rank, data_size, prefetch) as loader:
                mine = loader.global_batch(begin, size)
            assert [batch.number for batch in mine] == [m * data_size + rank for m in range(micro_batches)]
            for batch in mine:
                assert_equal(batch, single[batch.number])
        tokens = torch.cat([batch.tokens_BS for batch in single]).numpy()
        assert np.array_equal(tokens, stream.samples(np.arange(begin, begin + size))[:, :-1])


def test_a_resumed_loader_goes_on_where_the_other_stopped(corpus: Corpus) -> None:
    stream, sizes = stream_of(corpus), [4, 4, 8, 8, 4, 12]
    with BatchLoader(stream, causal(), 2, prefetch_batches=2) as straight:
        consumed, batches = 0, []
        for size in sizes:
            batches.append((consumed, size, straight.global_batch(consumed, size)))
            consumed += size
    for consumed, size, expected in batches:
        with BatchLoader(stream_of(corpus), causal(), 2, prefetch_batches=2) as resumed:
            for left, right in zip(resumed.global_batch(consumed, size), expected, strict=True):
                assert_equal(left, right)


class Recorder:
    """Remembers which thread made which micro-batch."""

    def __init__(self) -> None:
        self.objective = causal()
        self.threads: list[str] = []
        self.made = threading.Semaphore(0)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        self.threads.append(threading.current_thread().name)
        self.made.release()
        return self.objective.batch(samples, number)


def test_the_next_batches_are_read_before_they_are_asked_for(corpus: Corpus) -> None:
    recorder = Recorder()
    with BatchLoader(stream_of(corpus), recorder, 4, prefetch_batches=2) as loader:
        loader.global_batch(0, 4)
        for _ in range(3):
            assert recorder.made.acquire(timeout=10)
        assert len(recorder.threads) == 3
        # Asking for one that is there reads one more, not itself again.
        loader.global_batch(4, 4)
        assert recorder.made.acquire(timeout=10)
        assert len(recorder.threads) == 4
    assert all(name.startswith("read-train") for name in recorder.threads)


def test_reading_stops_with_the_evaluation_set(corpus: Corpus) -> None:
    recorder, stream = Recorder(), stream_of(corpus, endless=False)
    assert stream.num_samples is not None
    with BatchLoader(stream, recorder, 4, prefetch_batches=4) as loader:
        batches = loader.num_batches(4, at_most=10**6)
        assert batches == -(-stream.num_samples // 4)
        assert loader.num_batches(4, at_most=2) == 2
        counted = sum(float(b.loss_mask_BS.sum()) for i in range(batches) for b in loader.global_batch(4 * i, 4))
        assert counted == stream.parts[0].documents.num_tokens - 1
    assert len(recorder.threads) == batches


def test_an_error_in_the_thread_is_raised_where_its_batch_is_asked_for(corpus: Corpus) -> None:
    def stream_that_fails_late() -> SampleStream:
        stream = stream_of(corpus)
        read = stream.read

        def failing(numbers: np.ndarray, **options: Any) -> Samples:
            if numbers.max() >= 8:
                raise DataError("is damaged", where="shard")
            return read(numbers, **options)

        stream.read = failing  # type: ignore[method-assign]
        return stream

    with BatchLoader(stream_that_fails_late(), causal(), 4, prefetch_batches=2) as loader:
        loader.global_batch(0, 4)
        loader.global_batch(4, 4)
        for _ in range(2):
            with pytest.raises(DataError, match="is damaged"):
                loader.global_batch(8, 4)
        loader.global_batch(0, 4)


def test_no_thread_outlives_the_loader(corpus: Corpus) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        loader = BatchLoader(stream_of(corpus), causal(), 1, prefetch_batches=2)
        loader.global_batch(0, 4)
        loader.close()
        loader.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(ValueError, match="closed"):
        loader.global_batch(0, 4)


def test_refuses_batches_that_do_not_divide(corpus: Corpus) -> None:
    loader = BatchLoader(stream_of(corpus), causal(), 2, 1, 3)
    with pytest.raises(ValueError, match="of 8 samples is not a multiple of 6"):
        loader.global_batch(0, 8)
    with pytest.raises(ValueError, match="data rank 3 of 3"):
        BatchLoader(stream_of(corpus), causal(), 2, 3, 3)


def test_causal_labels_are_the_tokens_moved_by_one(corpus: Corpus) -> None:
    stream = stream_of(corpus)
    (batch,) = BatchLoader(stream, causal(), 3).global_batch(0, 3)
    samples = torch.from_numpy(stream.samples([0, 1, 2]))
    assert torch.equal(batch.tokens_BS, samples[:, :-1]) and torch.equal(batch.labels_BS, samples[:, 1:])
    assert batch.segment_ids_BS is None and bool((batch.loss_mask_BS == 1).all())
    assert torch.equal(batch.position_ids_BS, torch.arange(SEQ_LENGTH).expand(3, -1))
    types = [t.dtype for t in (batch.tokens_BS, batch.labels_BS, batch.loss_mask_BS, batch.position_ids_BS)]
    assert types == [torch.int64, torch.int64, torch.float32, torch.int64]
    assert all(t.is_contiguous() for t in vars(batch).values() if isinstance(t, torch.Tensor))


def test_positions_and_segments_begin_anew_at_each_document(corpus: Corpus) -> None:
    stream = stream_of(corpus)
    (batch,) = BatchLoader(stream, causal(documents_apart=True), 64).global_batch(0, 64)
    assert batch.segment_ids_BS is not None
    for number in range(64):
        positions, segments = [], []
        for segment, origin in enumerate(stream.provenance(number)):
            positions += range(origin.num_tokens)
            segments += [segment] * origin.num_tokens
        assert batch.position_ids_BS[number].tolist() == positions[:SEQ_LENGTH]
        assert batch.segment_ids_BS[number].tolist() == segments[:SEQ_LENGTH]
    assert int(batch.segment_ids_BS.max()) > 0


@pytest.mark.parametrize("documents_apart", [False, True])
def test_what_is_joined_to_other_text_is_no_label_after_it(corpus: Corpus, documents_apart: bool) -> None:
    stream, objective = stream_of(corpus), causal(documents_apart=documents_apart)
    before = stream.parts[0]
    assert isinstance(before, TokenStream)
    rest = before.continued(stream.sampling, 50)
    stream = SampleStream("train", [rest], [1.0], stream.sampling, VOCAB_SIZE)
    batches = BatchLoader(stream, objective, 4).global_batch(0, 40)
    follows = np.concatenate([(batch.labels_BS == batch.tokens_BS + 1).numpy() for batch in batches])
    counts = np.concatenate([batch.loss_mask_BS.numpy() for batch in batches]) > 0
    ends = {int(n) - 1 for n in np.cumsum([n for shard in corpus.shards for n in shard.document_lengths.tolist()])}
    tokens = np.concatenate([batch.tokens_BS.numpy() for batch in batches])
    assert (~counts).sum() > 5
    assert not follows[~counts].any()
    assert (follows | np.isin(tokens, list(ends)))[counts].all()
    if documents_apart:
        segments = np.concatenate([batch.segment_ids_BS.numpy() for batch in batches])  # type: ignore[union-attr]
        assert (np.diff(segments, axis=1) > 0)[~counts[:, :-1]].all()
