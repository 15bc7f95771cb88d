"""Lion."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.optimizers.lion_config import LionConfig


class Lion:
    """One moment of every element; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: LionConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _Lion(groups, {"lr": config.lr, "betas": (config.beta1, config.beta2)})

    def initial_state(self, flat: torch.Tensor, config: LionConfig) -> dict[str, Any]:
        """See `OptimizerKind.initial_state`."""
        return {"exp_avg": torch.zeros_like(flat)}


class _Lion(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                if (gradient := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                if "exp_avg" not in state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                moment = state["exp_avg"]
                parameter.mul_(1 - lr * group.get("weight_decay", 0.0))
                parameter.add_(torch.lerp(gradient, moment, beta1).sign_(), alpha=-lr)
                moment.lerp_(gradient, 1 - beta2)
