from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from denoising_inputs import (
    END,
    PAD,
    SENTINELS,
    assert_function_of_the_sample_number,
    assert_shifted,
    model,
    objective_of,
    rows_of,
    stream_of,
    text_of,
)
from encoder_inputs import FIRST_TEXT_ID, VOCAB_SIZE, assert_share, batches, encoder, joined
from pydantic import ValidationError
from test_objectives_span_corruption import rebuilt

from configs.errors import ConfigError
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.ul2 import MixtureOfDenoisersObjective
from pretrain.objectives.ul2_config import MixtureOfDenoisersConfig
from tests.pretrain.data.pretrain_data_corpora import write_corpus

MODES = {"regular": 5, "sequential": 6, "extreme": 7}
"""Ids of the mode tokens."""
TABLE_1 = [
    ("regular", 3, 0.15),
    ("regular", 8, 0.15),
    ("sequential", None, 0.25),
    ("extreme", 3, 0.5),
    ("extreme", 8, 0.5),
    ("extreme", 64, 0.15),
    ("extreme", 64, 0.5),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", [45] * 2200, first_token=FIRST_TEXT_ID)


def test_a_thousand_samples_have_the_published_mixture_and_give_their_text_back(path: Path) -> None:
    config = MixtureOfDenoisersConfig()
    assert [(d.mode, d.mean_span_length, d.noise_density) for d in config.mixture] == TABLE_1
    stream = stream_of(path, config)
    made = batches(stream, objective_of(config), 0, 1000)
    source = stream.samples(np.arange(1000))
    raw, drawn = source.shape[1], joined(made, "denoiser_B").tolist()
    rows = [row for batch in made for row in rows_of(batch)]
    for number, (mode, length, density) in enumerate(TABLE_1):
        here = [row for row, which in zip(rows, drawn) if which == number]
        assert_share(len(here), 1000, 1 / 7)
        tokens = round(raw * density)
        spans = 1 if length is None else max(1, round(tokens / length))
        for read, written in here:
            assert read[0] == MODES[mode] and [token for token in written if token >= VOCAB_SIZE] == [
                *SENTINELS[:spans]
            ]
            assert len(written) == tokens + spans + 1 and len(read) == 1 + raw - tokens + spans + 1 <= 64
            if mode == "sequential":
                assert read[-2:] == [SENTINELS[0], END] and written[0] == SENTINELS[0]
    for (read, written), text in zip(rows, source.tolist()):
        assert rebuilt(read[1:], written) == text
    for batch in made:
        assert_shifted(batch, PAD)
    assert max(len(read) for read, _ in rows) == 64 and max(len(written) for _, written in rows) == 46
    assert {batch.labels_BS.shape[1] for batch in made} == {config.target_length(model())} == {46}


def test_draws_are_a_function_of_the_sample_number(path: Path) -> None:
    assert_function_of_the_sample_number(path, MixtureOfDenoisersConfig(), ("denoiser_B",))


def two(**weights: float) -> MixtureOfDenoisersConfig:
    denoisers = [
        {"mode": "regular", "noise_density": 0.15, "mean_span_length": 3, "weight": weights.get("regular", 1)},
        {"mode": "sequential", "noise_density": 0.25, "mean_span_length": None},
    ]
    return MixtureOfDenoisersConfig.model_validate({"denoisers": denoisers, "mode_tokens": False})


def test_weights_decide_and_rows_without_mode_tokens_begin_with_text() -> None:
    config = two(regular=3)
    assert config.roles() == ("pad", "end_of_document") and config.text_tokens(model()) == 70
    batch = objective_of(config).batch(text_of([70] * 997 + [5, 1, 0], 70), 0)
    assert_share(int((batch.extras["denoiser_B"] == 0).sum()), 1000, 0.75)
    rows = rows_of(batch)
    assert all(read[0] == FIRST_TEXT_ID for read, _ in rows[:-1])
    assert rows[-2:] == [([FIRST_TEXT_ID, END], []), ([END], [])]


class FixedOutput:
    """An output that finds each label as hard as the number of its row."""

    logits_are_there = True

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        assert self.logits_are_there
        self.logits_are_there = False  # as megatron-core's loss leaves them
        return torch.arange(len(labels))[:, None].expand_as(labels).float()

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        assert self.logits_are_there
        return labels % 2 == 0


def test_each_denoiser_has_a_loss_of_its_own() -> None:
    objective = objective_of(two())
    batch = objective.batch(text_of([70] * 8, 70), 0)
    sums = {name: float(value) for name, value in objective.evaluation_sums(FixedOutput(), batch).items()}
    assert tuple(sums) == objective.evaluation_names
    figures = objective.figures(sums)
    assert [*figures] == ["loss", "perplexity", "accuracy", "loss_regular_3_0.15", "loss_sequential_end_0.25"]
    drawn = batch.extras["denoiser_B"].numpy()
    for number, name in enumerate(("loss_regular_3_0.15", "loss_sequential_end_0.25")):
        assert figures[name] == pytest.approx(np.flatnonzero(drawn == number).mean())
    assert sums["nats"] == sum(value for name, value in sums.items() if name.startswith("nats_"))
    assert objective.figures(dict.fromkeys(sums, 0.0))["loss_regular_3_0.15"] is None


def test_what_does_not_fit_is_refused() -> None:
    config = MixtureOfDenoisersConfig()
    assert OBJECTIVES.declaration("ul2") is MixtureOfDenoisersConfig
    assert config.implement() is MixtureOfDenoisersObjective
    roles = ("pad", "end_of_document", "regular_denoising", "sequential_denoising", "extreme_denoising")
    assert config.roles() == roles
    # The sizes of the paper: a hundred sentinels are enough.
    large = model(seq_length=512, decoder_seq_length=512)
    assert config.problems(large) == [] and config.num_sentinels(large) == 95 and config.text_tokens(large) == 567
    (short,) = config.problems(model(decoder_seq_length=45))
    assert "expected at least 46, or null" in short
    assert "no room for text" in config.problems(model(seq_length=3))[0]
    assert "expected objective.name=masked" in config.problems(encoder())[0]
    facts = TokenFacts(VOCAB_SIZE, {"pad": 0, "end_of_document": 4}, sentinels=range(50, 60))
    with pytest.raises(ConfigError, match=r"11 sentinels, .* has 10"):
        objective_of(config, facts=facts)
    with pytest.raises(ConfigError, match="'regular_denoising'"):
        objective_of(config, facts=TokenFacts(VOCAB_SIZE, facts.roles, sentinels=range(50, 70)))
    same = {"mode": "regular", "noise_density": 0.15, "mean_span_length": 3}
    with pytest.raises(ValidationError, match=r"regular_3_0.15 is there twice"):
        MixtureOfDenoisersConfig.model_validate({"denoisers": [same, same | {"weight": 2}]})
