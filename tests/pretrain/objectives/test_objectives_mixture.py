"""A mixture of objectives: which sample goes where, losses by name, figures of each part."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoder_inputs import FACTS, ROLES, VOCAB_SIZE, Decoder, Encoder, assert_share
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.load import load_config, to_yaml
from pretrain.config import RunConfig
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.samples import Samples
from pretrain.data.token_facts import TokenFacts
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.instruct import InstructObjective
from pretrain.objectives.instruct_config import InstructConfig
from pretrain.objectives.mixture import MixtureObjective
from pretrain.objectives.mixture_config import MixtureConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.unigram_figure import with_unigram_loss

SEQ_LENGTH = 32
GPT = GPTConfig(num_layers=2, hidden_size=16, num_attention_heads=2, seq_length=SEQ_LENGTH, vocab_size=100)
SENTINELS = {"fim_prefix": 5, "fim_suffix": 6, "fim_middle": 7}
GPT_FACTS = TokenFacts(100, {"end_of_document": 2} | SENTINELS)


def mixture_of(weights: dict[str, float], **keys: Any) -> MixtureConfig:
    """Parts called as their objectives, with the keys of each."""
    parts = {
        name: {"weight": weight, "objective": {"name": name} | keys.get(name, {})} for name, weight in weights.items()
    }
    return MixtureConfig.model_validate({"name": "mixture", "parts": parts})


CAUSAL_FIM = mixture_of({"causal": 3.0, "fill_in_middle": 1.0}, fill_in_middle={"fim_rate": 1.0})


def objective_of(config: MixtureConfig, seed: int = 1, *, evaluates: bool = False) -> MixtureObjective:
    return MixtureObjective(config, ObjectiveContext(GPT, GPT_FACTS, seed, is_evaluation=evaluates))


def samples(count: int, width: int = SEQ_LENGTH + 1) -> Samples:
    rng = np.random.default_rng(2)
    starts = rng.random((count, width)) < 0.05
    return Samples(
        rng.integers(10, 100, (count, width)), np.full(count, width), np.arange(count), document_starts=starts
    )


def test_parts_that_answer_in_conversations_read_their_own_answers() -> None:
    instruct = {"weight": 1.0, "objective": {"name": "instruct"}}
    config = MixtureConfig.model_validate({"name": "mixture", "parts": {"one": instruct, "other": instruct}})
    assert config.problems(GPT) == []
    assert config.sampling(GPT, documents_apart=True).marks_answers
    with pytest.raises(ConfigError, match=r"a conversation of objective\.name=instruct never sees another"):
        config.sampling(GPT, documents_apart=False)
    given = samples(32)
    given = replace(given, answers=np.random.default_rng(3).random(given.tokens.shape) < 0.5)
    batch = objective_of(config).batch(given, 0)
    whole = InstructObjective(InstructConfig(), ObjectiveContext(GPT, GPT_FACTS, 1)).batch(given, 0)
    counts_of = dict(zip(map(bytes, whole.tokens_BS.numpy()), whole.loss_mask_BS, strict=True))
    for row, counts in zip(batch.tokens_BS.numpy(), batch.loss_mask_BS, strict=True):
        assert torch.equal(counts, counts_of[bytes(row)])


@pytest.mark.parametrize(
    ("other", "told"),
    [("causal", "instruct reads samples of .* and causal of"), ("prefix", "one of them needs data.reset_attention")],
)
def test_conversations_beside_other_text_are_refused_in_words_that_lead_on(other: str, told: str) -> None:
    (problem,) = mixture_of({"instruct": 1.0, other: 1.0}).problems(GPT)
    assert re.search(told, problem) and "expected true" not in problem


def infilled(batch: Any) -> torch.Tensor:
    """Of each row, whether it has a sentinel."""
    return torch.isin(batch.tokens_BS, torch.tensor(list(SENTINELS.values()))).any(1)


def test_samples_go_to_an_objective_by_its_share_and_keep_their_rows() -> None:
    config, given = CAUSAL_FIM, samples(4000)
    assert config.shares == {"causal": 0.75, "fill_in_middle": 0.25}
    batch = objective_of(config).batch(given, 3)
    assert batch.number == 3 and batch.tokens_BS.shape == (4000, SEQ_LENGTH)
    is_infilled = infilled(batch)
    assert int(is_infilled.sum()) == 1000
    uneven = objective_of(mixture_of({"causal": 9.0, "fill_in_middle": 1.0}, fill_in_middle={"fim_rate": 1.0}))
    # A share that 16 samples do not hold exactly: one or two of them.
    assert_share(int(infilled(uneven.batch(given, 0)).sum()), 4000, 0.1)
    for begin in range(0, 160, 16):
        block = given.rows(begin, begin + 16)
        assert int(infilled(objective_of(config).batch(block, 0)).sum()) == 4
        assert int(infilled(uneven.batch(block, 0)).sum()) in (1, 2)
    plain = {row.tobytes() for row in given.tokens[:, :-1]}
    found = [row.numpy().tobytes() in plain for row in batch.tokens_BS]
    assert sum(found) == 4000 - int(infilled(batch).sum())


def test_which_one_follows_from_seed_and_sample_number_alone() -> None:
    given = samples(60)
    whole = objective_of(CAUSAL_FIM).batch(given, 0)
    parts = [objective_of(CAUSAL_FIM).batch(given.rows(at, at + 4), 7) for at in range(0, 60, 4)]

    def rows(batches: list[Any]) -> list[tuple[bytes, ...]]:
        fields = ("tokens_BS", "labels_BS", "loss_mask_BS", "position_ids_BS")
        return sorted(
            tuple(getattr(b, name)[row].numpy().tobytes() for name in fields)
            for b in batches
            for row in range(len(b.tokens_BS))
        )

    assert rows(parts) == rows([whole])
    assert rows([objective_of(CAUSAL_FIM, seed=2).batch(given, 0)]) != rows([whole])


class PricedRows(SimpleNamespace):
    """An output under which a label costs its own id."""

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.double()

    def rows(self, rows: torch.Tensor) -> PricedRows:
        return self


def test_losses_are_those_of_the_parts_and_are_trained_by_their_shares() -> None:
    objective = objective_of(mixture_of({"causal": 3.0, "fill_in_middle": 1.0, "prefix": 1.0}, causal={"z_loss": 0.5}))
    assert objective.coefficients == pytest.approx(
        {"causal/lm": 0.6, "causal/z": 0.3, "fill_in_middle/lm": 0.2, "prefix/lm": 0.2}
    )
    objective = objective_of(CAUSAL_FIM)
    batch = objective.batch(samples(40), 0)
    weights, losses = objective.weights(batch), objective.losses(PricedRows(), batch)  # type: ignore[arg-type]
    assert list(weights) == list(losses) == list(objective.coefficients)
    is_infilled = infilled(batch)
    for name, rows in (("causal/lm", ~is_infilled), ("fill_in_middle/lm", is_infilled)):
        assert float(weights[name]) == rows.sum() * SEQ_LENGTH
        assert float(losses[name]) == batch.labels_BS[rows].sum()
    alone = objective.batch(samples(60).rows(0, 1), 0)
    absent = {name for name, weight in objective.weights(alone).items() if not weight}
    assert len(absent) == 1
    assert float(objective.losses(PricedRows(), alone)[absent.pop()]) == 0  # type: ignore[arg-type]


def test_an_output_s_rows_are_a_copy_that_may_be_overwritten() -> None:
    from pretrain.models.family import Output

    logits = torch.randn(3, 4, 5)
    output = Output(logits, None, {"pair": torch.arange(8.0).view(4, 2)}).rows(torch.tensor([2, 0]))
    assert torch.equal(output.logits_SBV, logits[:, [2, 0]]) and output.heads["pair"].tolist() == [[4, 5], [0, 1]]
    output.logits_SBV.zero_()
    assert logits.abs().min() > 0


def test_a_prefix_holds_for_its_own_rows_only() -> None:
    objective = objective_of(mixture_of({"causal": 1.0, "prefix": 1.0}))
    batch = objective.batch(replace(samples(60), document_starts=None), 0)
    lengths = batch.extras["prefix_lengths_B"]
    is_prefix = batch.loss_mask_BS.sum(1) < SEQ_LENGTH
    assert 15 < int((lengths > 0).sum()) < 45
    assert (lengths[is_prefix] > 1).all() and (lengths[~is_prefix] <= 1).all()


def test_an_evaluation_reads_each_sample_by_every_part() -> None:
    objective = objective_of(CAUSAL_FIM, evaluates=True)
    nats = np.arange(100, dtype=np.float64)
    measured = with_unigram_loss(objective, nats)
    given = samples(20)
    batch = measured.batch(given, 0)
    assert batch.tokens_BS.shape == (60, SEQ_LENGTH)  # causal, and fill in the middle in both forms
    sums = {name: float(value) for name, value in measured.evaluation_sums(PricedRows(), batch).items()}  # type: ignore[arg-type]
    assert tuple(sums) == measured.evaluation_names
    figures = measured.figures(sums)
    mean = given.tokens[:, 1:].mean()
    for name in ("loss", "unigram_loss", "causal/loss", "causal/unigram_loss", "fill_in_middle/loss"):
        assert figures[name] == pytest.approx(mean)
    assert figures["fill_in_middle/infill_loss"] is not None and "causal/infill_loss" not in figures
    without = with_unigram_loss(objective_of(CAUSAL_FIM, evaluates=True), None)
    sums = {
        name: float(value) for name, value in without.evaluation_sums(PricedRows(), without.batch(given, 0)).items()
    }  # type: ignore[arg-type]
    assert not any("unigram" in name for name in without.figures(sums))


def test_the_loss_of_an_evaluation_is_that_of_the_parts_by_their_shares() -> None:
    objective = objective_of(mixture_of({"causal": 3.0, "prefix": 1.0}), evaluates=True)
    sums = dict.fromkeys(objective.evaluation_names, 1.0) | {"causal/nats": 2.0, "prefix/nats": 6.0}
    assert objective.figures(sums)["loss"] == pytest.approx(0.75 * 2 + 0.25 * 6)


def test_encoders_have_mixtures_of_masked_objectives() -> None:
    config = MixtureConfig.model_validate(
        {
            "parts": {
                "tokens": {"objective": {"name": "masked", "mask_rate": 0.15}},
                "spans": {"objective": {"name": "masked", "mask_rate": 0.4, "selection": "span"}},
            }
        }
    )
    encoder = Encoder(name="encoder", num_layers=1, hidden_size=8, seq_length=SEQ_LENGTH)
    assert config.problems(encoder) == [] and not config.labels_special_tokens and config.puts_special_tokens
    assert config.roles() == ("mask", "classification", "separator")
    width = config.sampling(encoder, documents_apart=False).stride_tokens
    objective = MixtureObjective(config, ObjectiveContext(encoder, FACTS, seed=1))
    assert VOCAB_SIZE > 100 and ROLES["mask"] == 3
    batch = objective.batch(replace(samples(100, width), document_starts=None), 0)
    chosen = set(batch.loss_mask_BS.sum(1).int().tolist())
    assert chosen == {round(0.15 * width), round(0.4 * width)}


def test_what_does_not_fit_is_refused() -> None:
    assert OBJECTIVES.declaration("mixture") is MixtureConfig
    assert CAUSAL_FIM.problems(GPT) == [] and CAUSAL_FIM.roles() == tuple(SENTINELS)
    assert CAUSAL_FIM.sampling(GPT, documents_apart=False).marks_documents
    encoder = Encoder(name="encoder", num_layers=1, hidden_size=8, seq_length=SEQ_LENGTH)
    problems = mixture_of({"causal": 1.0, "masked": 1.0}).problems(GPT)
    assert len(problems) == 1 and problems[0].startswith("objective.parts.masked: objective.name=masked asks")

    class Both(Decoder):
        """A model that no objective minds."""

    def agreeable(self: Any, model: Any) -> list[str]:
        return []

    class Masked(OBJECTIVES.declaration("masked")):  # type: ignore[misc]
        """A masked objective that takes any model."""

        problems = agreeable

    parts = {"causal": CAUSAL_FIM.parts["causal"], "masked": {"objective": Masked()}}
    mixed = MixtureConfig.model_validate({"parts": parts})
    (problem,) = mixed.problems(Both(name="both", num_layers=1, hidden_size=8, seq_length=SEQ_LENGTH))
    assert "causal reads samples of 32 tokens and 1 of the next by TokenStream, and masked of 30 tokens" in problem
    lengths = mixture_of(
        {"masked": 1.0, "masked_pairs": 1.0}, masked={"length_schedule": [{"from_sample": 0, "length": 16}]}
    )
    assert any("length_schedule=null" in problem for problem in lengths.problems(encoder))
    with pytest.raises(ConfigError, match="reset_attention_at_documents"):
        mixture_of({"causal": 1.0, "prefix": 1.0}).sampling(GPT, documents_apart=True)
    for wrong, said in (
        ({"causal": {"objective": {"name": "causal"}}}, "expected two or more"),
        ({"a/b": {"objective": {"name": "causal"}}, "c": {"objective": {"name": "causal"}}}, "cannot be the name"),
        ({"a": {"objective": CAUSAL_FIM}, "b": {"objective": {"name": "causal"}}}, "a mixture again"),
        ({"a": {"objective": {"name": "casual"}}, "b": {"objective": {"name": "causal"}}}, "did you mean causal"),
    ):
        with pytest.raises(ValidationError, match=said):
            MixtureConfig.model_validate({"parts": wrong})


def test_a_run_s_config_is_read_written_and_overridden(tmp_path: Any) -> None:
    path = tmp_path / "run.yaml"
    settings = [
        f"output={tmp_path}",
        "data.train=somewhere",
        "objective.name=mixture",
        "objective.parts.causal.objective.name=causal",
        "objective.parts.fim.objective.name=fill_in_middle",
        "objective.parts.fim.objective.fim_rate=0.9",
        "objective.parts.fim.weight=3",
    ]
    config = load_config(RunConfig, _recipe(), settings)
    path.write_text(to_yaml(config))
    assert load_config(RunConfig, path) == config
    assert isinstance(config.objective, MixtureConfig)
    assert config.objective.resolved()["parts"]["fim"]["weight"] == 0.75
    with pytest.raises(ConfigError, match="fim_rates"):
        load_config(RunConfig, path, ["objective.parts.fim.objective.fim_rates=0.5"])


def _recipe() -> Any:
    from configs.load import find_recipe

    return find_recipe("gpt-tiny", "pretrain")
