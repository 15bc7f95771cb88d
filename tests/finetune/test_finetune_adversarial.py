"""The second pass of adversarial training: what is added to the embeddings, and whose gradients are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from configs.errors import ConfigError
from finetune.adversarial import InputPerturbation
from finetune.tasks.base_config import TaskTraining

TOKENS_BS = torch.tensor([[1, 2, 3, 4], [4, 4, 2, 0], [5, 6, 7, 8]])
COUNTS_B = torch.tensor([1.0, 1.0, 0.0])
"""The third is a place without an example."""


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = torch.nn.Embedding(10, 6)
        self.body = torch.nn.Linear(6, 6)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def loss_of(self, embedded_BSH: torch.Tensor) -> torch.Tensor:
        return (self.body(embedded_BSH).tanh().sum((1, 2)) ** 2 * COUNTS_B).sum()

    def forward(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        return self.loss_of(self.table(tokens_BS))


def norm(values_BSH: torch.Tensor) -> torch.Tensor:
    return values_BSH.flatten(1).norm(dim=1)[:, None, None]


def by_hand(network: Network, radius: float, step: float, count: int) -> torch.Tensor:
    embedded_BSH = network.table(TOKENS_BS).detach()
    delta_BSH = torch.zeros_like(embedded_BSH)
    for _ in range(count):
        place_BSH = (embedded_BSH + delta_BSH).requires_grad_()
        (gradient_BSH,) = torch.autograd.grad(network.loss_of(place_BSH), place_BSH)
        delta_BSH = delta_BSH + step * torch.nan_to_num(gradient_BSH / norm(gradient_BSH))
        delta_BSH = torch.where(norm(delta_BSH) > radius, delta_BSH * radius / norm(delta_BSH), delta_BSH)
    return delta_BSH


@pytest.mark.parametrize(
    ("settings", "count", "step"),
    [
        ({"adversarial": "fgm", "adversarial_radius": 0.7}, 1, 0.7),
        ({"adversarial": "pgd", "adversarial_radius": 0.5, "adversarial_step_size": 0.3}, 3, 0.3),
    ],
)
def test_the_second_pass_is_the_perturbed_one(settings: dict[str, Any], count: int, step: float) -> None:
    training, network = TaskTraining(**settings), Network()
    perturbation = InputPerturbation(network, training)
    delta_BSH = by_hand(network, training.adversarial_radius, step, count)
    assert torch.allclose(norm(delta_BSH)[:2], torch.tensor(training.adversarial_radius)) and not delta_BSH[2].any()
    losses = []
    for loss in perturbation.passes(lambda model=network: model(TOKENS_BS)):
        loss.backward()
        losses.append(loss.detach())
    found = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}  # type: ignore[union-attr]
    network.zero_grad()
    clean, moved = network(TOKENS_BS), network.loss_of(network.table(TOKENS_BS) + delta_BSH)
    assert torch.allclose(torch.stack(losses), torch.stack([clean, moved]), rtol=1e-5) and moved > clean
    (clean + moved).backward()
    for name, parameter in network.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-5), name  # type: ignore[arg-type]
    with torch.no_grad():  # afterwards nothing is added
        assert network(TOKENS_BS) == clean


def test_embeddings_that_are_not_used_are_refused() -> None:
    """Or the second pass would be the first again."""
    network = Network()
    perturbation = InputPerturbation(network, TaskTraining(adversarial="fgm"))
    passes = perturbation.passes(lambda: network.loss_of(torch.ones(3, 4, 6)))
    next(passes)
    with pytest.raises(
        ConfigError, match=r"training\.adversarial: moves what Embedding looks up, which Network never does"
    ):
        next(passes)


def test_a_network_without_embeddings_and_keys_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.adversarial: is fgm, and Linear does not say"):
        InputPerturbation(torch.nn.Linear(2, 2), TaskTraining(adversarial="fgm"))
    for key, value in {"adversarial_steps": 5, "adversarial_step_size": 0.1}.items():
        with pytest.raises(ValueError, match=f"{key} is {value} and adversarial is fgm; expected pgd"):
            TaskTraining(adversarial="fgm", **{key: value})
    with pytest.raises(ValueError, match=r"adversarial_radius is 2\.0 and adversarial is none"):
        TaskTraining(adversarial_radius=2.0)
