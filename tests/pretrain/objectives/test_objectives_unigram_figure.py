"""The unigram loss of an evaluation is over exactly the labels that its loss is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoder_inputs import batches, objective_of, stream_of

from pretrain.data.run_data import RunData
from pretrain.objectives.masked_config import MaskedConfig
from pretrain.objectives.objective import ObjectiveContext, make_objective
from pretrain.objectives.pair import MaskedPairsObjective
from pretrain.objectives.pair_config import MaskedPairsConfig
from pretrain.objectives.unigram_figure import WithUnigramLoss
from tests.pretrain.data.pretrain_data_corpora import random_lengths, write_corpus
from tests.pretrain.tiny_run import BERT, make_corpus, tiny_config


class Guess(SimpleNamespace):
    """An output that gives every label two nats."""

    def __init__(self, rows: int) -> None:
        super().__init__(heads={"pair": torch.zeros(rows, 2)})

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.full(labels.shape, 2.0)

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(labels, dtype=torch.bool)


def figures_of(objective: Any, nats: np.ndarray | None, samples: Any) -> tuple[dict[str, float | None], Any]:
    measured = WithUnigramLoss(objective, nats)
    batch = measured.batch(samples, 0)
    sums = measured.evaluation_sums(Guess(len(batch.tokens_BS)), batch)  # type: ignore[arg-type]
    assert tuple(sums) == measured.evaluation_names
    return measured.figures({name: float(value) for name, value in sums.items()}), batch


@pytest.mark.parametrize("kind", ["next_sentence", "sentence_order"])
def test_of_pairs_white_space_that_is_trimmed_counts_nothing(tmp_path: Path, kind: str) -> None:
    corpus = make_corpus(tmp_path, documents=60, sentences=True)
    config = tiny_config(tmp_path / "run", corpus, **BERT | {"objective__pairs": kind})
    data = RunData.open(config)
    blank = data.tokens.blanks
    raw = data.train.read(np.arange(300))
    objective = MaskedPairsObjective(
        MaskedPairsConfig.model_validate({"name": "masked_pairs", "pairs": kind, "evaluation_mask_rate": 1.0}),
        ObjectiveContext(config.model, data.tokens, seed=1, is_evaluation=True),
    )
    figures, batch = figures_of(objective, blank.astype(np.float64), raw)  # the loss is the share of white space
    labels = batch.labels_BS.numpy()[batch.loss_mask_BS.numpy() > 0]
    assert figures["loss"] == 2
    assert figures["unigram_loss"] == pytest.approx(blank[labels].mean())
    among_all = blank[raw.tokens[np.arange(raw.tokens.shape[1]) < raw.num_tokens[:, None]]].mean()
    assert figures["unigram_loss"] < 0.95 * among_all


def test_of_masked_tokens_it_is_over_the_masked_ones(tmp_path: Path) -> None:
    config = MaskedConfig()
    stream = stream_of(write_corpus(tmp_path / "c", random_lengths(200), first_token=10), config)
    objective = objective_of(config, is_evaluation=True)
    nats = np.arange(stream.vocab_size, dtype=np.float64)
    figures, batch = figures_of(objective, nats, stream.read(np.arange(8)))
    assert figures["unigram_loss"] == pytest.approx(float(batch.labels_BS[batch.loss_mask_BS > 0].double().mean()))
    assert figures["unigram_loss"] != pytest.approx(
        float(batches(stream, objective, 0, 8, 8)[0].labels_BS.double().mean())
    )


def test_of_next_tokens_it_is_over_all_labels_and_without_frequencies_there_is_none(tmp_path: Path) -> None:
    data = RunData.open(tiny_config(tmp_path / "run", make_corpus(tmp_path)))
    objective = make_objective(
        tiny_config(tmp_path / "run", data.corpora.popitem()[0]), data.tokens, is_evaluation=True
    )
    stream = data.validation["validation"]
    assert stream.num_samples is not None
    samples = stream.read(np.arange(stream.num_samples + 3))  # the last ones ask for nothing
    nats = np.arange(data.vocab_size, dtype=np.float64)
    figures, _ = figures_of(objective, nats, samples)
    labels = [row[1:count] for row, count in zip(samples.tokens, samples.num_tokens)]
    assert figures["unigram_loss"] == pytest.approx(np.concatenate(labels).mean())
    figures, _ = figures_of(objective, None, samples)
    assert "unigram_loss" not in figures and figures["loss"] == 2


def test_special_tokens_cost_what_their_frequency_says_unless_they_are_never_labels(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    data = RunData.open(tiny_config(tmp_path / "run", corpus))
    end = data.tokens.roles["end_of_document"]
    nats = replace(data, labels_are_tokens=False).unigram_nats()
    assert nats is not None and nats[end] > 0
    assert np.array_equal(nats, data.unigram_nats())
    masked = replace(data, labels_special_tokens=False).unigram_nats()
    assert masked is not None and masked[end] == 0 and not MaskedConfig.labels_special_tokens
