"""Muon, exact over ZeRO's and tensor-parallel shards: each matrix is made orthogonal as a whole, on one rank.

Shape letters: R rows and C columns of a whole matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pretrain.optimizers.matrix_exchange import MatrixExchange
from pretrain.optimizers.muon_config import MuonConfig
from pretrain.optimizers.parameter_optimizer import ParameterOptimizer
from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: a X + (b A + c A^2) X with A = X X^T (Jordan et al. 2024)."""


class Muon:
    """One moment of every element of the matrices, two of the others; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: MuonConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _Muon(groups, config)


class _Muon(ParameterOptimizer):
    config: MuonConfig

    def attach(self, slices: Mapping[torch.Tensor, Sequence[ParameterSlice]], ranks: SliceRanks) -> None:
        """See the base class."""
        super().attach(slices, ranks)
        self._exchanges = {
            flat: MatrixExchange(parts, ranks) for flat, parts in slices.items() if parts[0].spec.is_hidden_matrix
        }

    def update(
        self, group: dict[str, Any], flat: torch.Tensor, slices: Sequence[ParameterSlice], state: dict[str, Any]
    ) -> None:
        """See the base class."""
        assert flat.grad is not None
        lr = group["lr"]
        if group["weight_decay"]:
            flat.mul_(1 - lr * group["weight_decay"])
        if (exchange := self._exchanges.get(flat)) is None:
            flat.add_(self._adam_step(flat.grad, state), alpha=-lr)
            return
        momentum = state["momentum_buffer"].lerp_(flat.grad, 1 - self.config.momentum)
        direction = flat.grad.lerp(momentum, self.config.momentum) if self.config.nesterov else momentum
        for part, update in exchange.apply(direction, self._orthogonal):
            part.of(flat).add_(update, alpha=-lr)

    def _adam_step(self, gradient: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        beta1, beta2, step = self.config.beta1, self.config.beta2, float(state["step"])
        first = state["exp_avg"].lerp_(gradient, 1 - beta1)
        second = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        return first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt_() + self.config.epsilon)

    def _orthogonal(self, part: ParameterSlice, weight_RC: torch.Tensor) -> torch.Tensor:
        """Each matrix that a weight packs made orthogonal and scaled; [R, C]."""
        result_RC = torch.empty_like(weight_RC)
        pattern = part.spec.row_pattern or (len(weight_RC),)
        period = sum(pattern)
        first = 0
        for rows in pattern:
            index = torch.arange(len(weight_RC), device=weight_RC.device)
            index = index[(index % period >= first) & (index % period < first + rows)]
            result_RC[index] = self._scaled(weight_RC[index])
            first += rows
        return result_RC

    def _scaled(self, matrix_RC: torch.Tensor) -> torch.Tensor:
        rows, columns = matrix_RC.shape
        factor = 0.2 * math.sqrt(max(rows, columns))
        if self.config.scale == "spectral":
            factor = math.sqrt(max(1.0, rows / columns))
        dtype = torch.bfloat16 if self.config.iteration_precision == "bf16" else torch.float32
        return orthogonalized(matrix_RC.to(dtype), self.config.iterations).float() * factor


def orthogonalized(matrix_RC: torch.Tensor, iterations: int) -> torch.Tensor:
    """About the orthogonal factor of the polar decomposition: singular values come out between 0.7 and 1.2.

    Args:
        matrix_RC: any shape.
        iterations: of the quintic Newton-Schulz iteration.

    Returns:
        In the shape and number format of `matrix_RC`.
    """
    a, b, c = COEFFICIENTS
    x_RC = matrix_RC.T if len(matrix_RC) > matrix_RC.shape[1] else matrix_RC
    x_RC = x_RC / x_RC.norm().clamp(min=1e-7)
    for _ in range(iterations):
        product_RR = x_RC @ x_RC.T
        x_RC = a * x_RC + (b * product_RR + c * product_RR @ product_RR) @ x_RC
    return x_RC.T if len(matrix_RC) > matrix_RC.shape[1] else x_RC
