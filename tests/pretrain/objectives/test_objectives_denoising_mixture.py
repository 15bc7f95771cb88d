"""A mixture of the objectives of encoder-decoders: how text is cut, whose row is whose, targets of one length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from denoising_inputs import FACTS, FIELDS, FIRST_TEXT_ID, TwoSidedModel, model

from configs.errors import ConfigError
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.mixture import MixtureObjective
from pretrain.objectives.mixture_config import MixtureConfig
from pretrain.objectives.objective import ObjectiveContext

MODEL = model(64)
PARTS: dict[str, dict[str, Any]] = {
    "spans": {"name": "span_corruption", "z_loss": 0.5},
    "denoisers": {"name": "ul2"},
    "infilling": {"name": "text_infilling", "selection": "token", "permute_sentences": False},
    "fragments": {"name": "masked_sequence"},
}


def mixture_of(*names: str, **keys: dict[str, Any]) -> MixtureConfig:
    """Of these parts, or all; with more keys of a part by its name."""
    parts = {name: {"objective": PARTS[name] | keys.get(name, {})} for name in names or PARTS}
    return MixtureConfig.model_validate({"name": "mixture", "parts": parts})


def objective_of(config: MixtureConfig, sizes: TwoSidedModel = MODEL, **context: Any) -> MixtureObjective:
    return MixtureObjective(config, ObjectiveContext(sizes, FACTS, 1, **context))


def samples(config: MixtureConfig, count: int) -> Samples:
    cutting = config.sampling(MODEL, documents_apart=False)
    rng, width = np.random.default_rng(3), cutting.stride_tokens
    starts = rng.random((count, width)) < 0.1
    return Samples(
        rng.integers(FIRST_TEXT_ID, 1000, (count, width)),
        np.full(count, width),
        np.arange(count),
        document_starts=starts if cutting.marks_documents else None,
        sentence_starts=starts | (rng.random((count, width)) < 0.2) if cutting.marks_sentences else None,
    )


def field_of(batch: MicroBatch, name: str) -> torch.Tensor:
    return batch.extras[name] if name in batch.extras else getattr(batch, name)


def rows_of(batches: list[MicroBatch]) -> list[tuple[bytes, ...]]:
    """Every row with all that belongs to it, in an order of their own."""
    return sorted(
        tuple(field_of(batch, name)[row].numpy().tobytes() for name in FIELDS)
        for batch in batches
        for row in range(len(batch.tokens_BS))
    )


def test_all_parts_read_the_shortest_text_and_have_targets_as_long_as_the_longest() -> None:
    config = mixture_of()
    assert config.problems(MODEL) == []
    parts = [part.objective for part in config.parts.values()]
    cut = [part.sampling(MODEL, documents_apart=False).stride_tokens for part in parts]
    assert config.sampling(MODEL, documents_apart=False).stride_tokens == min(cut) < max(cut)
    assert config.target_tokens(MODEL) == max(part.target_tokens(MODEL) or 0 for part in parts) == 64
    assert config.num_sentinels(MODEL) == max(part.num_sentinels(MODEL) for part in parts) > 0
    whole_words = mixture_of("infilling", "spans", infilling={"selection": "whole_word"})
    assert whole_words.reads_words and not config.reads_words
    roles = ("pad", "end_of_document", "regular_denoising", "sequential_denoising", "extreme_denoising")
    assert config.roles() == (*roles, "mask", "classification", "separator")
    assert not config.labels_special_tokens and config.puts_special_tokens
    batch = objective_of(config).batch(samples(config, 4), 2)
    assert batch.number == 2 and batch.tokens_BS.shape == batch.labels_BS.shape == (4, 64)
    given = model(64, 70)
    assert objective_of(config, given).batch(samples(config, 4), 0).labels_BS.shape == (4, 70)
    (problem,) = mixture_of("spans", "infilling").problems(model(64, 20))
    assert "objective.parts.infilling: model.decoder_seq_length 20 is shorter than the targets" in problem


def test_each_row_is_that_of_its_part_alone() -> None:
    config = mixture_of()
    given, objective = samples(config, 64), objective_of(config)
    batch, chosen = objective.batch(given, 0), objective._chosen(given.numbers)
    whole = model(64, 64)
    for place, (name, part) in enumerate(config.parts.items()):
        rows = np.flatnonzero(chosen == place)
        assert len(rows) == 16
        alone = part.objective.implement()(part.objective, ObjectiveContext(whole, FACTS, 1)).batch(given, 0)
        picked = torch.from_numpy(np.flatnonzero(np.sort(chosen) == place))
        for field in FIELDS:
            assert torch.equal(field_of(batch, field)[picked], field_of(alone, field)[rows]), (name, field)
        text = field_of(batch, "segment_ids_BS")[picked] == 0
        expected = alone.segment_ids_BS
        assert torch.equal(text, torch.ones_like(text) if expected is None else expected[rows] == 0)
        visible = batch.extras["cross_visible_BS"][picked]
        assert bool(visible.all()) == (name != "fragments")
        if name == "fragments":
            assert torch.equal(visible, alone.extras["cross_visible_BS"][rows])


def test_a_row_follows_from_the_sample_s_number_alone() -> None:
    config = mixture_of()
    given = samples(config, 48)
    whole = objective_of(config).batch(given, 0)
    for size in (1, 4, 16):
        parts = [objective_of(config).batch(given.rows(at, at + size), 7) for at in range(0, 48, size)]
        assert rows_of(parts) == rows_of([whole])
    other = MixtureObjective(config, ObjectiveContext(MODEL, FACTS, 2)).batch(given, 0)
    assert rows_of([other]) != rows_of([whole])


def test_sentences_go_with_their_samples() -> None:
    parts = {
        name: {"objective": {"name": "text_infilling", "selection": "token", "mask_rate": rate}}
        for name, rate in (("few", 0.1), ("many", 0.5))
    }
    config = MixtureConfig.model_validate({"parts": parts})
    given, objective = samples(config, 32), objective_of(config)
    batch, chosen = objective.batch(given, 0), objective._chosen(given.numbers)
    alone = [
        part.objective.implement()(part.objective, ObjectiveContext(MODEL, FACTS, 1)).batch(given, 0)
        for part in config.parts.values()
    ]
    expected = torch.cat([alone[place].tokens_BS[np.flatnonzero(chosen == place)] for place in (0, 1)])
    assert torch.equal(batch.tokens_BS, expected)


class Priced:
    """An output under which every label costs a nat, and no label is the likeliest token."""

    def rows(self, rows: torch.Tensor) -> Priced:
        return self

    def nll(self, labels_BT: torch.Tensor) -> torch.Tensor:
        return torch.ones(labels_BT.shape)

    def is_top(self, labels_BT: torch.Tensor) -> torch.Tensor:
        return torch.zeros(labels_BT.shape)

    def log_z(self) -> torch.Tensor:
        return torch.full((1, 1), 2.0)


def test_losses_and_figures_have_the_names_of_the_parts() -> None:
    config = mixture_of()
    objective, output = objective_of(config), Priced()
    assert objective.coefficients == {
        "spans/denoising": 0.25,
        "spans/z": 0.125,
        **{f"{name}/denoising": 0.25 for name in ("denoisers", "infilling", "fragments")},
    }
    batch = objective.batch(samples(config, 16), 0)
    weights, losses = objective.weights(batch), objective.losses(output, batch)  # type: ignore[arg-type]
    assert list(weights) == list(losses) == list(objective.coefficients)
    assert all(float(losses[name]) == float(weights[name]) > 0 for name in losses if name != "spans/z")
    assert float(losses["spans/z"]) == 4 * float(weights["spans/z"])
    measured = objective_of(config, is_evaluation=True)
    sums = measured.evaluation_sums(output, measured.batch(samples(config, 8), 0))  # type: ignore[arg-type]
    assert tuple(sums) == measured.evaluation_names
    figures = measured.figures({name: float(value) for name, value in sums.items()})
    assert figures["loss"] == figures["fragments/loss"] == figures["infilling/infilled_loss"] == 1.0
    assert {"denoisers/loss_regular_3_0.15", "spans/accuracy", "infilling/perplexity"} <= set(figures)


def test_what_does_not_fit_is_refused() -> None:
    sentences = PARTS["infilling"] | {"permute_sentences": True}
    parts = {"spans": {"objective": PARTS["spans"]}, "infilling": {"objective": sentences}}
    (problem,) = MixtureConfig.model_validate({"parts": parts}).problems(MODEL)
    assert "by FullSentences" in problem and "text_infilling with permute_sentences=false" in problem
    causal = {"spans": {"objective": PARTS["spans"]}, "causal": {"objective": {"name": "causal"}}}
    assert "objective.parts.causal: objective.name=causal has no text" in "; ".join(
        MixtureConfig.model_validate({"parts": causal}).problems(MODEL)
    )
    sizes = {"tensor": 3, "pipeline": 1, "data": 1}
    (problem,) = mixture_of().layout_problems(MODEL, sizes, sequence_parallel=True)
    assert "target length 64 of objective.name=mixture is not a multiple of the tensor size 3" in problem
    assert mixture_of().layout_problems(model(64, 66), sizes, sequence_parallel=True) == []
    assert mixture_of().layout_problems(MODEL, sizes, sequence_parallel=False) == []
    with pytest.raises(ConfigError, match="reset_attention_at_documents"):
        mixture_of().sampling(MODEL, documents_apart=True)
