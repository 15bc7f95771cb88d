"""Prefix language modelling: which labels count, how long prefixes are, and what attention sees of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoder_inputs import Decoder, assert_share
from pydantic import ValidationError

from configs.errors import ConfigError
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.samples import Samples
from pretrain.data.token_facts import TokenFacts
from pretrain.models.attention_mask import seen_by, told_apart, visible
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.prefix import PrefixObjective
from pretrain.objectives.prefix_config import PrefixConfig

SEQ_LENGTH = 40
GPT = GPTConfig(num_layers=2, hidden_size=16, num_attention_heads=2, seq_length=SEQ_LENGTH, vocab_size=50)


def objective_of(seed: int = 1, *, evaluates: bool = False, **keys: Any) -> PrefixObjective:
    return PrefixObjective(PrefixConfig(**keys), ObjectiveContext(GPT, TokenFacts(50), seed, is_evaluation=evaluates))


def samples(count: int, begin: int = 0) -> Samples:
    tokens = np.random.default_rng(begin).integers(0, 50, (count, SEQ_LENGTH + 1))
    return Samples(tokens, np.full(count, SEQ_LENGTH + 1), np.arange(begin, begin + count))


def test_labels_behind_the_prefix_count_and_its_length_is_uniform() -> None:
    given = samples(4000)
    batch = objective_of().batch(given, 5)
    plain = CausalObjective(CausalConfig(), ObjectiveContext(GPT, TokenFacts(50), 1)).batch(given, 5)
    for name in ("tokens_BS", "labels_BS", "position_ids_BS", "segment_ids_BS", "number"):
        left, right = getattr(batch, name), getattr(plain, name)
        assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
    lengths = batch.extras["prefix_lengths_B"]
    assert lengths.dtype == torch.int64 and (int(lengths.min()), int(lengths.max())) == (1, SEQ_LENGTH)
    for length in (1, 2, 20, SEQ_LENGTH):
        assert_share(int((lengths == length).sum()), 4000, 1 / SEQ_LENGTH)
    assert torch.equal(batch.loss_mask_BS, (torch.arange(1, SEQ_LENGTH + 1) >= lengths[:, None]).float())


def test_lengths_follow_from_seed_and_sample_number_alone() -> None:
    whole = objective_of().batch(samples(60), 0).extras["prefix_lengths_B"]
    parts = [objective_of().batch(samples(60).rows(at, at + 4), 9).extras["prefix_lengths_B"] for at in range(0, 60, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(objective_of(seed=2).batch(samples(60), 0).extras["prefix_lengths_B"], whole)


def test_shares_bound_the_prefix_and_evaluations_have_their_own() -> None:
    lengths = objective_of(prefix_share=(0.5, 0.75)).batch(samples(1000), 0).extras["prefix_lengths_B"]
    assert (int(lengths.min()), int(lengths.max())) == (20, 30)
    given = samples(3)
    short = replace(given, num_tokens=np.array([SEQ_LENGTH + 1, 11, 0]))
    batch = objective_of(evaluates=True, prefix_share=(1.0, 1.0), evaluation_prefix_share=0.25).batch(short, 0)
    assert batch.extras["prefix_lengths_B"].tolist() == [10, 2, 1]
    assert batch.loss_mask_BS.sum(1).tolist() == [31, 9, 0]


def by_hand(prefix: int, length: int, window: int | None) -> list[list[bool]]:
    def sees(query: int, key: int) -> bool:
        near = window is None or abs(query - key) <= window
        return near and (key <= query or key < prefix)

    return [[sees(query, key) for key in range(length)] for query in range(length)]


@pytest.mark.parametrize("window", [None, 3])
def test_a_prefix_is_seen_by_all_and_the_rest_by_what_follows(window: int | None) -> None:
    lengths = torch.tensor([1, 4, 9])
    segments, prefix = told_apart(seen_by(None, lengths))
    assert segments is None and prefix is lengths
    mask = visible(None, torch.zeros(3, 2, 9, 8), is_causal=True, window=window, prefix_lengths_B=prefix)
    assert mask is not None and mask.shape == (3, 1, 9, 9)
    assert mask[:, 0].tolist() == [by_hand(length, 9, window) for length in (1, 4, 9)]
    ids = torch.zeros(3, 9, dtype=torch.int64)
    assert told_apart(seen_by(ids, None)) == (ids, None)
    assert told_apart(seen_by(None, None)) == (None, None)
    with pytest.raises(ValueError, match="both documents apart and prefixes"):
        seen_by(ids, lengths)


def test_gpt_reads_a_prefix_in_both_directions() -> None:
    from pretrain.engine.single import reference_outputs

    generator = torch.Generator().manual_seed(1)
    weights = {spec.name: 0.3 * torch.randn(spec.shape, generator=generator) for spec in GPT.parameters()}
    batch = objective_of(prefix_share=(0.5, 0.5)).batch(samples(2), 0)
    changed = batch.tokens_BS.clone()
    changed[:, 19] = (changed[:, 19] + 1) % 50  # the last token of the prefix
    later = batch.tokens_BS.clone()
    later[:, 20] = (later[:, 20] + 1) % 50  # the first behind it
    plain, other, behind = (
        reference_outputs(GPT, weights, replace(batch, tokens_BS=tokens))["logits"]
        for tokens in (batch.tokens_BS, changed, later)
    )
    assert not torch.isclose(plain[:, :19], other[:, :19]).all(-1).any()
    torch.testing.assert_close(plain[:, :20], behind[:, :20])
    causal = reference_outputs(GPT, weights, replace(batch, extras={}))["logits"]
    one = reference_outputs(GPT, weights, replace(batch, extras={"prefix_lengths_B": torch.ones(2, dtype=torch.int64)}))
    torch.testing.assert_close(one["logits"], causal)
    assert not torch.isclose(plain[:, 25], causal[:, 25]).all(-1).any()


def test_what_does_not_fit_is_refused() -> None:
    assert OBJECTIVES.declaration("prefix") is PrefixConfig
    assert PrefixConfig().problems(GPT) == []
    (problem,) = PrefixConfig().problems(Decoder(name="rnn", num_layers=1, hidden_size=8, seq_length=64))
    assert "model.name=rnn is not; expected model.name=gpt" in problem
    with pytest.raises(ConfigError, match="reset_attention_at_documents"):
        PrefixConfig().sampling(GPT, documents_apart=True)
    for share in ((0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValidationError, match="expected two rising shares"):
            PrefixConfig(prefix_share=share)


def test_losses_count_the_labels_behind_the_prefix() -> None:
    objective = objective_of()
    batch = objective.batch(samples(8), 0)
    count = float(batch.loss_mask_BS.sum())
    output: Any = SimpleNamespace(nll=lambda labels: torch.full(labels.shape, 2.0))
    assert float(objective.weights(batch)["lm"]) == count < 8 * SEQ_LENGTH
    assert float(objective.losses(output, batch)["lm"]) == 2 * count
    sums = {name: float(value) for name, value in objective.evaluation_sums(output, batch).items()}
    assert sums["tokens"] == count and objective.figures(sums)["loss"] == 2
