"""What objectives of encoders are tested with: a model's sizes, a vocabulary, streams of ids that occur once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from data_prep.corpus import Corpus
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.documents import Documents
from pretrain.data.loader import BatchLoader
from pretrain.data.sample_index import open_index
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.models.parameter_table import ParameterSpec
from pretrain.objectives.objective import ObjectiveContext

VOCAB_SIZE = 100_000
PAD, CLS, SEP, MASK, END = 0, 1, 2, 3, 4
ROLES = {"pad": PAD, "classification": CLS, "separator": SEP, "mask": MASK, "end_of_document": END}
FIRST_TEXT_ID = 10


class Sizes(ModelConfig):
    """Sizes of a model of which nothing is built."""

    def parameters(self) -> Iterator[ParameterSpec]:
        """None."""
        yield from ()


class Encoder(Sizes):
    """Sizes of a model that sees both sides."""

    is_causal: ClassVar[bool] = False


class PairEncoder(Encoder):
    """One with a head for pairs."""

    has_pair_head: ClassVar[bool] = True


class Decoder(Sizes):
    """Sizes of a model that sees what comes before."""


class WordTokenizer:
    """What is asked of a tokenizer: ids that are 0 modulo 3 begin words, with one in ten besides."""

    vocab_size = VOCAB_SIZE
    sentinels: tuple[int, ...] = ()

    def is_special(self, token: int) -> bool:
        return False

    def word_starts(self) -> np.ndarray:
        ids = np.arange(VOCAB_SIZE)
        return (ids % 3 == 0) | (np.random.default_rng(5).random(VOCAB_SIZE) < 0.1)


FACTS = TokenFacts(VOCAB_SIZE, ROLES, WordTokenizer())  # type: ignore[arg-type]
vars(FACTS)["blanks"] = np.zeros(VOCAB_SIZE, dtype=np.bool_)  # none is, and a million need not be asked


def encoder(seq_length: int = 64) -> Encoder:
    return Encoder(name="encoder", num_layers=1, hidden_size=8, seq_length=seq_length)


def stream_of(
    path: Path,
    config: ObjectiveConfig,
    seq_length: int = 64,
    *,
    apart: bool = False,
    endless: bool = True,
    seed: int = 1,
) -> SampleStream:
    corpus = Corpus.open(path)
    sampling = config.sampling(encoder(seq_length), documents_apart=apart)
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), path / "index")
    index = open_index(corpus, documents, sampling, seed, endless=endless)
    return SampleStream("train", [index], [1.0], sampling, VOCAB_SIZE)


def objective_of(config: ObjectiveConfig, seq_length: int = 64, seed: int = 1, **context: Any) -> Any:
    return config.implement()(config, ObjectiveContext(encoder(seq_length), FACTS, seed, **context))


def batches(
    stream: SampleStream, objective: Any, begin: int, samples: int, micro_batch_size: int = 50
) -> list[MicroBatch]:
    return BatchLoader(stream, objective, micro_batch_size).global_batch(begin, samples)


def joined(parts: list[MicroBatch], name: str) -> np.ndarray:
    """One field of some micro-batches as one array, `extras` included."""
    return torch.cat([p.extras[name] if name in p.extras else getattr(p, name) for p in parts]).numpy()


def assert_equal(left: MicroBatch, right: MicroBatch) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        if name == "extras":
            assert value.keys() == other.keys()
            assert all(torch.equal(value[key], other[key]) for key in value)
        else:
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


def assert_share(hits: int, trials: int, share: float) -> None:
    """That `hits` of `trials` agrees with a probability: within its 99.9 % confidence interval (3.29 deviations)."""
    deviation = math.sqrt(trials * share * (1 - share))
    assert abs(hits - trials * share) <= 3.29 * deviation, f"{hits} of {trials} is {hits / trials}, expected {share}"
