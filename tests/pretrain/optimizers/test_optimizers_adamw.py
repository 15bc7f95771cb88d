"""AdamW as a kind of optimizer: its formula, the states that it declares, and what DeepSpeed's sharding asks of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.optimizers.optimizer import optimizer_kind_of

CONFIG = AdamWConfig(lr=0.01, beta1=0.8, beta2=0.9, epsilon=1e-6)
DECAY = 0.3


def _stepped(start: torch.Tensor, gradients: torch.Tensor, state: dict[str, Any] | None = None) -> torch.nn.Parameter:
    """`start` after one step per row of `gradients`; the optimizer's state is left in `state`."""
    parameter = torch.nn.Parameter(start.clone())
    optimizer = optimizer_kind_of(CONFIG).build([{"params": [parameter], "weight_decay": DECAY}], CONFIG)
    if state:
        optimizer.state[parameter].update(state)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    if state is not None:
        state.update(optimizer.state[parameter])
    return parameter


@pytest.fixture
def start() -> torch.Tensor:
    return torch.randn(12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def gradients() -> torch.Tensor:
    return torch.randn(4, 12, generator=torch.Generator().manual_seed(2))


def test_it_computes_the_papers_update(start: torch.Tensor, gradients: torch.Tensor) -> None:
    weight, first, second = start.double(), torch.zeros(12).double(), torch.zeros(12).double()
    for step, gradient in enumerate(gradients.double(), start=1):
        first = CONFIG.beta1 * first + (1 - CONFIG.beta1) * gradient
        second = CONFIG.beta2 * second + (1 - CONFIG.beta2) * gradient**2
        corrected = first / (1 - CONFIG.beta1**step), second / (1 - CONFIG.beta2**step)
        update = corrected[0] / (corrected[1].sqrt() + CONFIG.epsilon)
        weight = weight - CONFIG.lr * update - CONFIG.lr * DECAY * weight
    assert torch.allclose(_stepped(start, gradients).double(), weight, rtol=0, atol=1e-6)


def test_it_keeps_the_states_that_it_declares(start: torch.Tensor, gradients: torch.Tensor) -> None:
    state: dict[str, Any] = {}
    _stepped(start, gradients, state)
    assert set(state) == {"step", *(spec.name for spec in AdamWConfig.states)}
    assert all(state[spec.name].shape == start.shape for spec in AdamWConfig.states)


def test_its_first_step_is_that_from_the_initial_state(start: torch.Tensor, gradients: torch.Tensor) -> None:
    state = optimizer_kind_of(CONFIG).initial_state(start, CONFIG)
    assert torch.equal(_stepped(start, gradients, state), _stepped(start, gradients))


def test_it_goes_on_from_its_state_bitwise(start: torch.Tensor, gradients: torch.Tensor) -> None:
    state: dict[str, Any] = {}
    half = _stepped(start, gradients[:2], state)
    assert torch.equal(_stepped(half.detach(), gradients[2:], state), _stepped(start, gradients))


def test_every_element_is_updated_alone(start: torch.Tensor, gradients: torch.Tensor) -> None:
    whole = _stepped(start, gradients)
    parts = [_stepped(start[part], gradients[:, part]) for part in (slice(0, 5), slice(5, 12))]
    assert torch.equal(torch.cat([part.detach() for part in parts]), whole.detach())
