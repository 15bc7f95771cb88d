"""What an optimizer has to do for the engine and the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pretrain.config.optimizer import OptimizerConfig

if TYPE_CHECKING:
    import torch


class OptimizerKind(Protocol):
    """Makes the optimizer that DeepSpeed shards. Made without arguments.

    What is sharded is one flat tensor per parameter group (ZeRO 0 to 2) or a part of each parameter (ZeRO 3): an
    update must be computed element by element, or `build` gives a `ParameterOptimizer`. Which of the two, and which
    states it keeps, is said by its declaration.
    """

    def build(self, groups: list[dict[str, Any]], config: Any) -> torch.optim.Optimizer:
        """The optimizer.

        Args:
            groups: torch's parameter groups, `weight_decay` among their keys. All parameters of a group keep the same
                states.
            config: the kind's own config, a subclass of `OptimizerConfig`.
        """
        ...

    def initial_state(self, flat: torch.Tensor, config: Any) -> dict[str, Any]:
        """What `optimizer.state` of a parameter is before its first step; a count of steps is called `step`.

        A `ParameterOptimizer` says it itself, and its kind has no such method.
        """
        ...


def optimizer_kind_of(config: OptimizerConfig) -> OptimizerKind:
    """The implementation of the optimizer that `config` names."""
    kind: OptimizerKind = config.implement()()
    return kind
