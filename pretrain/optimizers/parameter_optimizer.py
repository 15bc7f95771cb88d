"""The base of optimizers that look at whole parameters: their norms, rows and columns, or products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pretrain.config.optimizer import OptimizerConfig
from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks


class ParameterOptimizer(torch.optim.Optimizer):
    """An optimizer whose parameters are DeepSpeed's flat tensors, and which knows what lies in them.

    A subclass gives `update`. What it computes of a parameter it adds up over `self.ranks`, so that the result is that
    of one process which has all of it.

    Args:
        groups: torch's parameter groups.
        config: the kind's own config.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": config.lr, "weight_decay": 0.0})
        self.config = config
        self.ranks = SliceRanks()
        self._slices: dict[torch.Tensor, Sequence[ParameterSlice]] = {}

    def attach(self, slices: Mapping[torch.Tensor, Sequence[ParameterSlice]], ranks: SliceRanks) -> None:
        """Say what the flat tensors hold. Once, before the first step; collective.

        Args:
            slices: of every flat tensor its parameters, in one order on all ranks, also those that this rank has
                nothing of.
            ranks: who has the other parts.
        """
        self._slices = dict(slices)
        self.ranks = ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every flat tensor that has a gradient. Collective.

        Raises:
            RuntimeError: `attach` was not called.
        """
        for group in self.param_groups:
            for flat in group["params"]:
                if flat.grad is None:
                    continue
                if flat not in self._slices:
                    raise RuntimeError(f"{type(self).__name__} was not told which parameters the tensor holds")
                state = self.state[flat]
                if not state:
                    state.update(self.initial_state(flat))
                state["step"] += 1
                self.update(group, flat, self._slices[flat], state)

    def initial_state(self, flat: torch.Tensor) -> dict[str, Any]:
        """The state of a flat tensor before its first step: a count of steps, and zeros.

        A state with a number per row or column is a mapping from the names of the parameters.
        """
        made: dict[str, Any] = {"step": torch.zeros((), dtype=torch.float32)}
        slices = self._slices[flat]
        # Parameters of other states are in other groups.
        for state in self.config.states_of(slices[0].spec):
            if state.extent == "element":
                made[state.name] = torch.zeros_like(flat)
                continue
            made[state.name] = {
                part.spec.name: torch.zeros(part.state_shape(state).local_shape, device=flat.device) for part in slices
            }
        return made

    def update(
        self, group: dict[str, Any], flat: torch.Tensor, slices: Sequence[ParameterSlice], state: dict[str, Any]
    ) -> None:
        """Change the weights in `flat` by its gradient. Collective.

        Args:
            group: torch's parameter group.
            flat: fp32, flat; `flat.grad` is the gradient.
            slices: what it holds.
            state: read and changed; `step` counts this one already.
        """
        raise NotImplementedError
