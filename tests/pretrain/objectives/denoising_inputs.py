"""What objectives of encoder-decoders are tested with: a model's sizes, a vocabulary, ids that occur once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from encoder_inputs import FIRST_TEXT_ID, VOCAB_SIZE, WordTokenizer, joined

from data_prep.corpus import Corpus
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.documents import Documents
from pretrain.data.loader import BatchLoader
from pretrain.data.sample_index import open_index
from pretrain.data.samples import Samples
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.models.parameter_table import ParameterSpec
from pretrain.objectives.objective import ObjectiveContext

FIRST_SENTINEL = VOCAB_SIZE
SENTINELS = tuple(range(FIRST_SENTINEL + 199, FIRST_SENTINEL - 1, -1))
"""As T5's: the first is the last id."""
PAD, CLS, SEP, MASK, END = 0, 1, 2, 3, 4
ROLES = {
    **{"pad": PAD, "classification": CLS, "separator": SEP, "mask": MASK, "end_of_document": END},
    **{"regular_denoising": 5, "sequential_denoising": 6, "extreme_denoising": 7},
}
FACTS = TokenFacts(FIRST_SENTINEL + 200, ROLES, WordTokenizer(), SENTINELS)  # type: ignore[arg-type]
FIELDS = ("tokens_BS", "labels_BS", "loss_mask_BS", "position_ids_BS", "decoder_tokens_BT", "decoder_position_ids_BT")


class TwoSidedModel(ModelConfig):
    """Sizes of an encoder and a decoder."""

    is_causal: ClassVar[bool] = False
    is_encoder_decoder: ClassVar[bool] = True

    decoder_start_role: ClassVar[str] = "pad"
    decoder_seq_length: int | None = None

    def parameters(self) -> Iterator[ParameterSpec]:
        """None: nothing is built."""
        yield from ()


def model(seq_length: int = 64, decoder_seq_length: int | None = None) -> TwoSidedModel:
    sizes = {"num_layers": 1, "hidden_size": 8, "seq_length": seq_length, "decoder_seq_length": decoder_seq_length}
    return TwoSidedModel(name="two-sided", **sizes)  # type: ignore[arg-type]


def stream_of(
    path: Path, config: ObjectiveConfig, seq_length: int = 64, *, endless: bool = True, seed: int = 1
) -> SampleStream:
    corpus = Corpus.open(path)
    sampling = config.sampling(model(seq_length), documents_apart=False)
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), path / "index")
    index = open_index(corpus, documents, sampling, seed, endless=endless)
    return SampleStream("train", [index], [1.0], sampling, 1 << 20)


def objective_of(config: ObjectiveConfig, sizes: ModelConfig | None = None, seed: int = 1, **context: Any) -> Any:
    facts = context.pop("facts", FACTS)
    return config.implement()(config, ObjectiveContext(sizes or model(), facts, seed, **context))


def text_of(lengths: list[int], width: int, numbers: list[int] | None = None) -> Samples:
    """Samples of text ids that each occur once in their sample."""
    tokens = np.zeros((len(lengths), width), dtype=np.int64)
    for row, length in zip(tokens, lengths):
        row[:length] = FIRST_TEXT_ID + np.arange(length)
    return Samples(tokens, np.array(lengths), np.array(numbers or range(len(lengths))))


def rows_of(batch: MicroBatch, pad: int = PAD) -> list[tuple[list[int], list[int]]]:
    """What each row reads and is to write, without padding; the marks of padding and labels agree with it."""
    read = np.ones(tuple(batch.tokens_BS.shape), dtype=bool)
    if batch.segment_ids_BS is not None:
        assert set(batch.segment_ids_BS.unique().tolist()) == {0, -1}
        read = batch.segment_ids_BS.numpy() == 0
    asked = batch.loss_mask_BS.numpy() == 1
    tokens, labels = batch.tokens_BS.numpy(), batch.labels_BS.numpy()
    assert (tokens[~read] == pad).all() and (labels[~asked] == pad).all() and read[:, 0].all()
    assert not (read[:, 1:] & ~read[:, :-1]).any() and not (asked[:, 1:] & ~asked[:, :-1]).any()
    return [(row[here].tolist(), label[there].tolist()) for row, here, label, there in zip(tokens, read, labels, asked)]


def assert_shifted(batch: MicroBatch, start: int) -> None:
    """That the decoder reads the labels moved by one behind the start token."""
    decoder = batch.extras["decoder_tokens_BT"]
    assert (decoder[:, 0] == start).all() and torch.equal(decoder[:, 1:], batch.labels_BS[:, :-1])
    assert decoder.dtype == batch.labels_BS.dtype == batch.tokens_BS.dtype == torch.int64


def assert_function_of_the_sample_number(path: Path, config: ObjectiveConfig, extras: tuple[str, ...] = ()) -> None:
    """The same in every data-parallel size, micro-batch size and after every resume; another in every sample."""
    stream, objective = stream_of(path, config), objective_of(config)
    alone = [BatchLoader(stream, objective, 16).global_batch(begin, 16)[0] for begin in (0, 16, 32)]
    for data_size, size in ((1, 4), (2, 2), (4, 1), (4, 4)):
        for step in (2, 1):  # asked for from the middle, as a resume does
            fresh_stream, fresh = stream_of(path, config), objective_of(config)
            loaders = [BatchLoader(fresh_stream, fresh, size, rank, data_size) for rank in range(data_size)]
            found = [batch for loader in loaders for batch in loader.global_batch(16 * step, 16)]
            found.sort(key=lambda batch: batch.number)
            for name in FIELDS + extras:
                assert np.array_equal(joined(found, name), joined([alone[step]], name)), name
    samples = stream.read(np.zeros(3, dtype=np.int64))
    samples = replace(samples, numbers=np.arange(3))
    first, second, other = rows_of(objective.batch(samples, 0))
    assert first != second != other
    later = objective.batch(replace(samples, batch_start=-5), 7)
    assert rows_of(later) == [first, second, other]
    assert rows_of(objective_of(config, seed=2).batch(samples, 0))[0] != first
    measured = [rows_of(objective_of(config, seed=seed, is_evaluation=True).batch(samples, 0)) for seed in (1, 2)]
    assert measured[0] == measured[1] != [first, second, other]
