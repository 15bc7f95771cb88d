"""Cross-entropy with smoothed labels and R-Drop, against torch's own and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from configs.errors import ConfigError
from finetune.label_losses import example_losses, smoothed_cross_entropy, symmetric_divergence
from finetune.tasks.base import FinetuneTask
from finetune.tasks.base_config import TaskTraining
from finetune.tasks.label_logits import LabelLogits

OWNERS = [0, 0, 2]  # the second of three examples has nothing that counts


def logits(seed: int, owners: list[int]) -> LabelLogits:
    generator = torch.Generator().manual_seed(seed)
    count = len(owners)
    gold_N, weights_N = torch.randint(5, (count,), generator=generator), torch.rand(count, generator=generator)
    return LabelLogits(torch.randn(count, 5, generator=generator), gold_N, weights_N, torch.tensor(owners))


def test_smoothed_labels_are_those_of_torch() -> None:
    found = logits(0, OWNERS)
    for smoothing in (0.0, 0.3):
        by_torch_N = functional.cross_entropy(
            found.logits_NC, found.gold_N, reduction="none", label_smoothing=smoothing
        )
        weighted_N = by_torch_N * found.weights_N
        expected_B = torch.stack([weighted_N[:2].sum(), torch.zeros(()), weighted_N[2]])
        assert torch.allclose(smoothed_cross_entropy(found, smoothing, 3), expected_B, atol=1e-6)


class Twice(FinetuneTask):
    """Gives other logits for the second half of what it is asked for, as dropout would."""

    def losses(self, *given: Any) -> torch.Tensor:
        return torch.tensor([7.0])

    def label_logits(self, model: Any, part: Any, numbers: Any, device: Any) -> LabelLogits:
        assert numbers == [4, 9, 8, 4, 9, 8]
        one, two = logits(1, OWNERS), logits(2, [owner + 3 for owner in OWNERS])
        return LabelLogits(
            torch.cat([one.logits_NC, two.logits_NC]),
            torch.cat([one.gold_N, one.gold_N]),
            torch.cat([one.weights_N, one.weights_N]),
            torch.cat([one.owner_N, two.owner_N]),
        )


def test_r_drop_is_both_losses_and_both_divergences() -> None:
    found_B = example_losses(Twice(), TaskTraining(r_drop=0.5))(None, None, [4, 9, 8], None)
    both = Twice().label_logits(None, None, [4, 9, 8, 4, 9, 8], None)
    first_NC, second_NC = both.logits_NC[:3], both.logits_NC[3:]
    expected = []
    for place in range(3):
        loss = torch.zeros(())
        for n in (n for n in range(3) if OWNERS[n] == place):
            p, q = first_NC[n].softmax(-1), second_NC[n].softmax(-1)
            nll = -(p[both.gold_N[n]].log() + q[both.gold_N[n]].log()) / 2
            divergence = 0.5 * ((p * (p / q).log()).sum() + (q * (q / p).log()).sum())
            loss = loss + both.weights_N[n] * (nll + 0.5 * divergence)
        expected.append(loss)
    assert torch.allclose(found_B, torch.stack(expected), atol=1e-6)
    assert symmetric_divergence(both, 3)[1] == 0 and symmetric_divergence(both, 3)[0] > 0


class OfAnotherKind(FinetuneTask):
    """Its loss is no cross-entropy."""


def test_a_task_without_labels_is_refused() -> None:
    assert example_losses(Twice(), TaskTraining())(None, None, [], None) == 7
    for key in ("label_smoothing", "r_drop"):
        with pytest.raises(
            ConfigError, match=rf"training\.{key}: is 0\.1, and the loss of this task is no cross-entropy"
        ):
            example_losses(OfAnotherKind(), TaskTraining(**{key: 0.1}))
