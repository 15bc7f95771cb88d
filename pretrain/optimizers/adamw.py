"""AdamW, torch's fused one."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.optimizers.adamw_config import AdamWConfig


class AdamW:
    """First and second moment of every element; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: AdamWConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
        )

    def initial_state(self, flat: torch.Tensor, config: AdamWConfig) -> dict[str, Any]:
        """See `OptimizerKind.initial_state`."""
        moments = {spec.name: torch.zeros_like(flat) for spec in config.states}
        return {"step": torch.zeros((), dtype=torch.float32, device=flat.device), **moments}
