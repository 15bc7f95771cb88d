"""The losses of preference learning against their formulas, by hand."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.tasks.prefer_config import PreferConfig
from finetune.tasks.preference_losses import Scores, preference_losses, rewards

POLICY = [[-4.0, -6.0], [-3.0, -2.5]]
REFERENCE = [[-5.0, -5.5], [-3.5, -2.0]]
TOKENS = [[4.0, 3.0], [2.0, 5.0]]


def config(**changes: Any) -> PreferConfig:
    fixed = {"output": Path("out"), "model": Path("model"), "data": {"train_texts": "x.jsonl"}}
    return PreferConfig.model_validate(fixed | changes)


def losses(**changes: Any) -> list[float]:
    scores = Scores(torch.tensor(POLICY), torch.tensor(REFERENCE), torch.tensor(TOKENS), torch.tensor([True, False]))
    return preference_losses(scores, config(**changes)).tolist()


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_dpo() -> None:
    margins = [0.3 * ((p[0] - r[0]) - (p[1] - r[1])) for p, r in zip(POLICY, REFERENCE)]
    assert losses(loss="dpo", beta=0.3) == pytest.approx([-log(sigmoid(m)) for m in margins])
    smooth = [-0.9 * log(sigmoid(m)) - 0.1 * log(sigmoid(-m)) for m in margins]
    assert losses(loss="dpo", beta=0.3, label_smoothing=0.1) == pytest.approx(smooth)


def test_ipo() -> None:
    by_hand = []
    for p, r, t in zip(POLICY, REFERENCE, TOKENS):
        by_hand.append(((p[0] - r[0]) / t[0] - (p[1] - r[1]) / t[1] - 1 / (2 * 0.3)) ** 2)
    assert losses(loss="ipo", beta=0.3) == pytest.approx(by_hand)


def test_orpo() -> None:
    by_hand = []
    for p, t in zip(POLICY, TOKENS):
        chosen, rejected = p[0] / t[0], p[1] / t[1]
        odds = log(exp(chosen) / (1 - exp(chosen))) - log(exp(rejected) / (1 - exp(rejected)))
        by_hand.append(-chosen - 0.3 * log(sigmoid(odds)))
    assert losses(loss="orpo", beta=0.3) == pytest.approx(by_hand, rel=1e-5)


def test_kto() -> None:
    divergence = max(0.0, sum(p[1] - r[1] for p, r in zip(POLICY, REFERENCE)) / 2)
    assert divergence == 0.0  # -0.5 and -0.5: an estimate below 0 is none
    good, bad = (0.3 * (p[0] - r[0] - divergence) for p, r in zip(POLICY, REFERENCE))
    expected = [2.0 * (1 - sigmoid(good)), 0.5 * (1 - sigmoid(-bad))]
    weights = {"desirable_weight": 2.0, "undesirable_weight": 0.5}
    assert losses(loss="kto", beta=0.3, **weights) == pytest.approx(expected)
    policy = torch.tensor([[-4.0, -5.0], [-3.0, -1.0]], requires_grad=True)
    scores = Scores(policy, torch.tensor(REFERENCE), torch.tensor(TOKENS), torch.tensor([True, False]))
    found = preference_losses(scores, config(loss="kto", beta=0.3))
    divergence = (0.5 + 1.0) / 2
    assert float(found[0]) == pytest.approx(1 - sigmoid(0.3 * (1.0 - divergence)))
    found.sum().backward()
    assert policy.grad is not None and policy.grad[:, 1].tolist() == [0.0, 0.0]


def test_rewards() -> None:
    scores = Scores(torch.tensor(POLICY), torch.tensor(REFERENCE), torch.tensor(TOKENS))
    assert rewards(scores, "dpo", 0.5)[0].tolist() == pytest.approx([0.5, -0.25])
    assert rewards(scores, "orpo", 0.5)[0].tolist() == pytest.approx([-0.5, -1.0])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is set, which loss=ipo does not read; dpo do"),
        ({"loss": "dpo", "desirable_weight": 2.0}, "loss=dpo does not read"),
        ({"loss": "orpo", "reference_cache": Path("x")}, "loss=orpo does not read"),
        ({"loss": "kto", "training": {"micro_batch_size": 1}}, "2 samples or more"),
    ],
)
def test_keys_of_another_method_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config(**changes)
