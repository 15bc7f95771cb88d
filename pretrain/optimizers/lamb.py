"""LAMB, exact over ZeRO's and tensor-parallel shards: the norms are summed over the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pretrain.optimizers.lamb_config import LambConfig
from pretrain.optimizers.parameter_optimizer import ParameterOptimizer
from pretrain.optimizers.parameter_slices import ParameterSlice


class Lamb:
    """Two moments of every element; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: LambConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _Lamb(groups, config)


class _Lamb(ParameterOptimizer):
    def update(
        self, group: dict[str, Any], flat: torch.Tensor, slices: Sequence[ParameterSlice], state: dict[str, Any]
    ) -> None:
        """See the base class."""
        assert isinstance(self.config, LambConfig) and flat.grad is not None
        beta1, beta2, step = self.config.beta1, self.config.beta2, float(state["step"])
        first = state["exp_avg"].lerp_(flat.grad, 1 - beta1)
        second = state["exp_avg_sq"].mul_(beta2).addcmul_(flat.grad, flat.grad, value=1 - beta2)
        update = first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt_() + self.config.epsilon)
        if decay := group["weight_decay"]:
            update.add_(flat, alpha=decay)
        adapted = [part for part in slices if part.spec.decays]
        ratios = dict(zip((part.spec.name for part in adapted), self._ratios(adapted, flat, update)))
        for part in slices:
            step_of = part.of(update)
            if part.spec.decays and part.elements:
                rows_NC = part.as_rows(step_of) * part.spread(ratios[part.spec.name])
                step_of = part.from_rows(rows_NC)
            part.of(flat).add_(step_of, alpha=-group["lr"])

    def _ratios(self, slices: Sequence[ParameterSlice], flat: torch.Tensor, update: torch.Tensor) -> list[torch.Tensor]:
        """Norm of the weights by norm of the update, 1 where one is 0; of each slice [M]."""
        sums = [torch.stack([part.square_sums(part.of(flat)), part.square_sums(part.of(update))]) for part in slices]
        self.ranks.sum_over_data(sums)
        self.ranks.sum_over_tensor([found for found, part in zip(sums, slices) if part.is_cut])
        norms = [found.sqrt() for found in sums]
        return [torch.where((norm > 0).all(0), norm[0] / norm[1], torch.ones_like(norm[0])) for norm in norms]
