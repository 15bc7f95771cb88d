"""Each optimizer against its paper's formula, or torch's own where torch has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pretrain.config.optimizer import OptimizerConfig
from pretrain.models.parameter_table import ParameterSpec
from pretrain.optimizers.adafactor_config import AdafactorConfig
from pretrain.optimizers.adagrad_config import AdagradConfig
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.optimizers.lamb_config import LambConfig
from pretrain.optimizers.lion_config import LionConfig
from pretrain.optimizers.muon import orthogonalized
from pretrain.optimizers.muon_config import MuonConfig
from pretrain.optimizers.sgd_config import SGDConfig
from tests.pretrain.optimizers.flat_run import DECAY, matrix, numbers, stepped, vector

MATRIX = matrix(6, 4)
LR = 0.02
Steps = list[torch.Tensor]


def _gradients(spec: ParameterSpec) -> Steps:
    return [numbers(spec, seed) for seed in (2, 3, 4)]


def _torch(make: Callable[[torch.nn.Parameter], torch.optim.Optimizer], start: torch.Tensor, gradients: Steps):
    parameter = torch.nn.Parameter(start.clone())
    optimizer = make(parameter)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def _check(config: OptimizerConfig, expected: torch.Tensor, spec: ParameterSpec = MATRIX) -> None:
    start = numbers(spec, 1)
    found = stepped(config, spec, start, _gradients(spec))
    assert not torch.allclose(found, start, atol=1e-3)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    """torch's couples the decay: without one they are the same, and the decay is that of AdamW."""
    start, moment = numbers(MATRIX, 1), torch.zeros(MATRIX.shape)
    expected = start.clone()
    for gradient in _gradients(MATRIX):
        moment = 0.9 * moment + gradient
        expected = expected * (1 - LR * DECAY) - LR * (gradient + 0.9 * moment if nesterov else moment)
    _check(SGDConfig(lr=LR, nesterov=nesterov), expected)


def test_sgd_without_momentum_keeps_no_state() -> None:
    config = SGDConfig(lr=LR, momentum=0)
    state: dict[str, object] = {}
    stepped(config, MATRIX, numbers(MATRIX, 1), _gradients(MATRIX), state)
    assert (state, config.states_of(MATRIX)) == ({}, ())


def test_adagrad() -> None:
    expected, squares = numbers(MATRIX, 1), torch.zeros(MATRIX.shape)
    for gradient in _gradients(MATRIX):
        squares = squares + gradient**2
        expected = expected * (1 - LR * DECAY) - LR * gradient / (squares.sqrt() + 1e-10)
    _check(AdagradConfig(lr=LR), expected)


def test_lion() -> None:
    expected, moment = numbers(MATRIX, 1), torch.zeros(MATRIX.shape)
    for gradient in _gradients(MATRIX):
        update = (0.9 * moment + 0.1 * gradient).sign()
        expected = expected - LR * (update + DECAY * expected)
        moment = 0.99 * moment + 0.01 * gradient
    _check(LionConfig(lr=LR), expected)


def _adam_updates(gradients: Steps, beta1: float, beta2: float, epsilon: float) -> Steps:
    first, second, updates = torch.zeros(()), torch.zeros(()), []
    for step, gradient in enumerate(gradients, start=1):
        first, second = beta1 * first + (1 - beta1) * gradient, beta2 * second + (1 - beta2) * gradient**2
        updates.append(first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt() + epsilon))
    return updates


def test_lamb() -> None:
    expected = numbers(MATRIX, 1)
    for update in _adam_updates(_gradients(MATRIX), 0.9, 0.999, 1e-6):
        update = update + DECAY * expected
        expected = expected - LR * expected.norm() / update.norm() * update
    _check(LambConfig(lr=LR), expected)


def test_lamb_does_not_scale_vectors() -> None:
    spec = vector(6)
    expected = numbers(spec, 1)
    for update in _adam_updates(_gradients(spec), 0.9, 0.999, 1e-6):
        expected = expected - LR * update
    _check(LambConfig(lr=LR), expected, spec)


def test_lamb_moves_weights_that_are_zero() -> None:
    found = stepped(LambConfig(lr=LR), MATRIX, torch.zeros(MATRIX.shape), _gradients(MATRIX)[:1])
    torch.testing.assert_close(found, -LR * _gradients(MATRIX)[0].sign(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [MATRIX, vector(6)], ids=["matrix", "vector"])
def test_adafactor_is_torchs(spec: ParameterSpec) -> None:
    """Where torch takes min(lr, 1 / sqrt(step)), ours takes the rate of the schedule."""
    decay = DECAY if spec.decays else 0.0
    expected = _torch(
        lambda p: torch.optim.Adafactor([p], lr=LR, weight_decay=decay, eps=(1e-30, 1e-3), foreach=False),
        numbers(spec, 1),
        _gradients(spec),
    )
    _check(AdafactorConfig(lr=LR), expected, spec)


def test_muon_is_torchs() -> None:
    expected = _torch(
        lambda p: torch.optim.Muon([p], lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
        numbers(MATRIX, 1),
        _gradients(MATRIX),
    )
    found = stepped(MuonConfig(lr=LR, iteration_precision="bf16"), MATRIX, numbers(MATRIX, 1), _gradients(MATRIX))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # bf16 has 8 bits
    exact = stepped(MuonConfig(lr=LR), MATRIX, numbers(MATRIX, 1), _gradients(MATRIX))
    torch.testing.assert_close(exact, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("spec", [matrix(6, 4, layer=False), vector(6)], ids=["embedding", "vector"])
def test_muon_leaves_the_others_to_adamw(spec: ParameterSpec) -> None:
    expected = stepped(AdamWConfig(lr=LR), spec, numbers(spec, 1), _gradients(spec))
    _check(MuonConfig(lr=LR), expected, spec)


def test_orthogonal_matrices_come_out() -> None:
    """The iteration's coefficients bring singular values near 1, not to it."""
    for shape in ((24, 8), (8, 24), (16, 16)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=torch.Generator().manual_seed(1)), 5))
        assert values.min() > 0.5 and values.max() < 1.3, values


@pytest.mark.parametrize("config", [LambConfig(lr=LR), AdafactorConfig(lr=LR), MuonConfig(lr=LR)], ids=lambda c: c.name)
def test_packed_matrices_are_looked_at_each_by_itself(config: OptimizerConfig) -> None:
    """The pattern (4, 2, 2), twice: what is packed so trains as if it were three weights."""
    packed = matrix(16, 4, (4, 2, 2))
    start, gradients = numbers(packed, 1), _gradients(packed)
    # Else the three would be alike.
    scale = torch.tensor([1.0] * 4 + [5.0] * 2 + [0.1] * 2).repeat(2).unsqueeze(1)
    start, gradients = start * scale, [gradient * scale.flip(0) for gradient in gradients]
    found = stepped(config, packed, start, gradients)
    rows = torch.arange(16) % 8
    for which in (rows < 4, (rows >= 4) & (rows < 6), rows >= 6):
        alone = matrix(int(which.sum()), 4)
        expected = stepped(config, alone, start[which], [gradient[which] for gradient in gradients])
        torch.testing.assert_close(found[which], expected, rtol=0, atol=2e-6)
    whole = stepped(config, matrix(16, 4), start, gradients)
    assert not torch.allclose(found, whole, atol=1e-3)


ALL = [
    SGDConfig(lr=LR),
    AdagradConfig(lr=LR),
    LionConfig(lr=LR),
    LambConfig(lr=LR),
    AdafactorConfig(lr=LR, beta1=0.9),
    MuonConfig(lr=LR),
]


@pytest.mark.parametrize("spec", [MATRIX, vector(6)], ids=["matrix", "vector"])
@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_they_keep_what_they_declare_and_go_on_from_it_bitwise(config: OptimizerConfig, spec: ParameterSpec) -> None:
    state: dict[str, object] = {}
    start, gradients = numbers(spec, 1), _gradients(spec)
    half = stepped(config, spec, start, gradients[:1], state)
    assert {name for name in state if name != "step"} == {kept.name for kept in config.states_of(spec)}
    assert torch.equal(stepped(config, spec, half, gradients[1:], state), stepped(config, spec, start, gradients))


@pytest.mark.parametrize("config", [c for c in ALL if c.is_element_wise], ids=lambda c: c.name)
def test_every_element_is_updated_alone(config: OptimizerConfig) -> None:
    spec, left, right = vector(12), vector(5), vector(7)
    start, gradients = numbers(spec, 1), _gradients(spec)
    parts = [
        stepped(config, part, start[cut], [gradient[cut] for gradient in gradients])
        for part, cut in ((left, slice(0, 5)), (right, slice(5, 12)))
    ]
    assert torch.equal(torch.cat(parts), stepped(config, spec, start, gradients))
