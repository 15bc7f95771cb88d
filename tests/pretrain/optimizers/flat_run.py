"""Runs an optimizer of ours on whole parameters in this process, laid out in flat tensors as DeepSpeed does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pretrain.config.optimizer import OptimizerConfig
from pretrain.models.parameter_table import Constant, ParameterSpec
from pretrain.optimizers.optimizer import optimizer_kind_of
from pretrain.optimizers.parameter_optimizer import ParameterOptimizer
from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks
from pretrain.parallel.sharded_shape import ShardedShape

DECAY = 0.3


def matrix(rows: int, columns: int, pattern: tuple[int, ...] = (), *, layer: bool = True) -> ParameterSpec:
    """A weight of a layer (or of the first stage)."""
    return ParameterSpec("weight", (rows, columns), 0 if layer else "first", Constant(0.0), row_pattern=pattern)


def vector(elements: int) -> ParameterSpec:
    """A bias or norm."""
    return ParameterSpec("vector", (elements,), 0, Constant(0.0), decays=False)


def numbers(spec: ParameterSpec, seed: int) -> torch.Tensor:
    """Normal numbers in the shape of a parameter."""
    return torch.randn(spec.shape, generator=torch.Generator().manual_seed(seed))


def stepped(
    config: OptimizerConfig,
    spec: ParameterSpec,
    start: torch.Tensor,
    gradients: Sequence[torch.Tensor],
    state: dict[str, Any] | None = None,
) -> torch.Tensor:
    """`start` after a step for each of `gradients`, with a learning rate of `config.lr`; `state` is used and kept."""
    flat = torch.nn.Parameter(start.reshape(-1).clone())
    decay = DECAY if spec.decays else 0.0
    optimizer = optimizer_kind_of(config).build([{"params": [flat], "weight_decay": decay}], config)
    if isinstance(optimizer, ParameterOptimizer):
        whole = ShardedShape(spec.name, spec.shape, spec.shape)
        optimizer.attach({flat: [ParameterSlice(spec, whole, 0, flat.numel(), 0)]}, SliceRanks())
    if state:
        optimizer.state[flat].update(state)
    for gradient in gradients:
        flat.grad = gradient.reshape(-1).clone()
        optimizer.step()
    if state is not None:
        state.update(optimizer.state[flat])
    return flat.detach().view(spec.shape)
