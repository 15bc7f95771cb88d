"""Adagrad with decoupled weight decay."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.optimizers.adagrad_config import AdagradConfig


class Adagrad:
    """The sum of squared gradients of every element; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: AdagradConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _Adagrad(groups, {"lr": config.lr, "initial_sum": config.initial_sum, "eps": config.epsilon})

    def initial_state(self, flat: torch.Tensor, config: AdagradConfig) -> dict[str, Any]:
        """See `OptimizerKind.initial_state`."""
        return {"sum": torch.full_like(flat, config.initial_sum)}


class _Adagrad(torch.optim.Optimizer):
    """Not torch's class, for its weight decay is coupled, and DeepSpeed would put another in its place.

    deepspeed/runtime/zero/stage_1_and_2.py:946 (initialize_optimizer_states)
    deepspeed/runtime/zero/stage3.py:1358 (initialize_optimizer_states)
    make a torch.optim.Adagrad anew, of one group without the groups' weight decay.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            lr = group["lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "sum" not in state:
                    state["sum"] = torch.full_like(parameter, group["initial_sum"])
                parameter.mul_(1 - lr * group.get("weight_decay", 0.0))
                squares = state["sum"].addcmul_(parameter.grad, parameter.grad)
                parameter.addcdiv_(parameter.grad, squares.sqrt().add_(group["eps"]), value=-lr)
