"""SGD with momentum and decoupled weight decay."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.optimizers.sgd_config import SGDConfig


class SGD:
    """One moment of every element; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: SGDConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _SGD(groups, {"lr": config.lr, "momentum": config.momentum, "nesterov": config.nesterov})

    def initial_state(self, flat: torch.Tensor, config: SGDConfig) -> dict[str, Any]:
        """See `OptimizerKind.initial_state`."""
        return {"momentum_buffer": torch.zeros_like(flat)} if config.momentum else {}


class _SGD(torch.optim.Optimizer):
    """torch's own couples weight decay with the gradient, so that it grows with the learning rate and the momentum."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if (gradient := parameter.grad) is None:
                    continue
                parameter.mul_(1 - lr * group.get("weight_decay", 0.0))
                if momentum:
                    state = self.state[parameter]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
                    moment = state["momentum_buffer"].mul_(momentum).add_(gradient)
                    gradient = gradient.add(moment, alpha=momentum) if group["nesterov"] else moment
                parameter.add_(gradient, alpha=-lr)
