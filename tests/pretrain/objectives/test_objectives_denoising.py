"""What the objectives of encoder-decoders have in common: real vocabularies, the checks before a run, mutations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from denoising_inputs import FACTS, assert_function_of_the_sample_number, objective_of, rows_of, text_of
from encoder_inputs import FIRST_TEXT_ID

from configs.errors import ConfigError
from configs.load import load_config
from data_prep.config import TokenizerConfig
from data_prep.tokenizer.training import train_tokenizer
from pretrain import preflight
from pretrain.config import RunConfig
from pretrain.data.samples import Samples
from pretrain.objectives.objective import make_objective
from pretrain.objectives.span_corruption import SpanCorruptionObjective
from pretrain.objectives.span_corruption_config import SpanCorruptionConfig
from pretrain.objectives.unigram_figure import WithUnigramLoss
from tests.pretrain.data.pretrain_data_corpora import write_corpus
from tests.pretrain.tiny_run import SENTENCE, make_corpus

SENTINELS = 40
SPECIAL = {
    **{"mask": "<mask>", "classification": "<s>", "separator": "</s>", "sentinels": SENTINELS},
    **{"regular_denoising": "[NLU]", "sequential_denoising": "[S2S]", "extreme_denoising": "[NLG]"},
}
OBJECTIVES = ("span_corruption", "masked_sequence", "text_infilling", "ul2")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus whose vocabulary has all that these objectives need."""
    directory = tmp_path_factory.mktemp("denoising")
    text = directory / "text.txt"
    text.write_text(f"{SENTENCE}\n" * 50)
    settings = [f"special_tokens.{role}={spelling!r}" for role, spelling in SPECIAL.items()]
    given = [f"input={text}", f"output={directory}/tok", "vocab_size=380", *settings]
    train_tokenizer(load_config(TokenizerConfig, None, given))
    return make_corpus(directory, 100, tokenizer=directory / "tok")


def run_of(corpus: Path, name: str, **changes: Any) -> RunConfig:
    """A run of a model that is not there: what is checked before it is built."""
    raw = {
        "output": corpus.parent / "run",
        "model": {"name": "denoising_inputs:TwoSidedModel", "num_layers": 1, "hidden_size": 8, "seq_length": 64},
        "objective": {"name": name} | ({"permute_sentences": False} if name == "text_infilling" else {}),
        "data": {"train": corpus, "split": [0.8, 0.1, 0.1]},
        "training": {"duration": "2 steps", "micro_batch_size": 2, "global_batch_size": 8, "device": "cpu"},
        "optimizer": {"lr": 1e-3},
    }
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        raw[section] = raw[section] | {inner: value}  # type: ignore[operator]
    return RunConfig.model_validate(raw)


class FixedOutput:
    """An output that finds every label equally hard."""

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.full(labels.shape, 2.0)

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        return labels >= 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_on_a_real_corpus_is_checked_and_read(corpus: Path, name: str) -> None:
    config = run_of(corpus, name)
    plan = preflight.check_model_and_data(config)
    # What is left to the objective is known from then on.
    length = config.objective.target_tokens(config.model)
    assert config.model.decoder_seq_length is None and plan.config.model.decoder_seq_length == length  # type: ignore[attr-defined]
    assert plan.data.tokens.sentinels == tuple(range(8, 8 + SENTINELS))  # two roles share the token of another

    stream, nats = plan.data.validation["validation"], plan.data.unigram_nats()
    objective = WithUnigramLoss(make_objective(plan.config, plan.data.tokens, is_evaluation=True), nats)
    assert stream.num_samples is not None and nats is not None
    batch = objective.batch(stream.read(np.arange(stream.num_samples + 3)), 0)
    rows = rows_of(batch, plan.data.tokens.role("pad"))
    assert all(read for read, _ in rows) and all(not written for _, written in rows[-3:])
    special = {*plan.data.tokens.special_ids.tolist()}
    labels = [label for _, written in rows for label in written]
    sums = {key: float(value) for key, value in objective.evaluation_sums(FixedOutput(), batch).items()}  # type: ignore[arg-type]
    assert tuple(sums) == objective.evaluation_names
    figures = objective.figures(sums)
    assert figures["loss"] == 2 and figures["accuracy"] == 1
    # A unigram model is told the special tokens.
    expected = sum(0.0 if label in special else nats[label] for label in labels) / len(labels)
    assert figures["unigram_loss"] == pytest.approx(expected) and expected > 0


def test_a_corpus_whose_vocabulary_lacks_something_is_refused_before_a_run(corpus: Path, tmp_path: Path) -> None:
    bare = make_corpus(tmp_path, 100)
    for name, missing in (
        ("span_corruption", r"needs 3 sentinels, .* the tokenizer has none\n.*special_tokens.sentinels=100"),
        ("ul2", "role 'regular_denoising'"),
        ("text_infilling", "role 'mask'"),
        ("masked_sequence", "role 'mask'"),
    ):
        with pytest.raises(ConfigError, match=missing):
            preflight.check_model_and_data(run_of(bare, name))
    with pytest.raises(ConfigError, match=rf"needs 87 sentinels, .* has {SENTINELS}\n"):
        preflight.check_model_and_data(run_of(corpus, "ul2", model__seq_length=470))


def test_keys_that_do_not_fit_are_refused_with_the_config(corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"model.decoder_seq_length 10 is shorter .* expected at least 14, or null"):
        run_of(corpus, "span_corruption", model__decoder_seq_length=10)
    with pytest.raises(ValueError, match=r"objective.name=causal has no text for the encoder"):
        run_of(corpus, "causal")


def _numbers_restart_each_step(samples: Samples, number: int) -> np.ndarray:
    return samples.numbers - samples.batch_start


def _numbers_of_the_micro_batch(samples: Samples, number: int) -> np.ndarray:
    return np.arange(len(samples.numbers)) + number


def _numbers_of_the_rank(samples: Samples, number: int) -> np.ndarray:
    return samples.numbers % 2 + samples.numbers // 2 * (number % 2 + 1)


@pytest.mark.parametrize(
    "numbers", [_numbers_restart_each_step, _numbers_of_the_micro_batch, _numbers_of_the_rank], ids=lambda f: f.__name__
)
def test_draws_that_rest_on_something_else_are_noticed(
    tmp_path: Path, numbers: Callable[[Samples, int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_corpus(tmp_path / "c", [45] * 200, first_token=FIRST_TEXT_ID)
    batch = SpanCorruptionObjective.batch

    def mutated(self: SpanCorruptionObjective, samples: Samples, number: int) -> Any:
        return batch(self, replace(samples, numbers=numbers(samples, number)), number)

    monkeypatch.setattr(SpanCorruptionObjective, "batch", mutated)
    with pytest.raises(AssertionError):
        assert_function_of_the_sample_number(path, SpanCorruptionConfig())


def test_mutated_spans_do_not_give_the_text_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_objectives_span_corruption import rebuilt

    from pretrain.objectives import span_corruption

    samples = text_of([70], 70)
    text, sound = samples.tokens[0].tolist(), span_corruption.with_sentinels
    (row,) = rows_of(objective_of(SpanCorruptionConfig()).batch(samples, 0))
    assert rebuilt(*row) == text

    def one_for_all(tokens: Any, here: Any, replaced: Any, sentinels: Any, width: int, pad: int) -> Any:
        return sound(tokens, here, replaced, np.repeat(sentinels[:1], len(sentinels)), width, pad)

    monkeypatch.setattr(span_corruption, "with_sentinels", one_for_all)
    (row,) = rows_of(objective_of(SpanCorruptionConfig(), facts=FACTS).batch(samples, 0))
    with pytest.raises(AssertionError):
        assert rebuilt(*row) == text
