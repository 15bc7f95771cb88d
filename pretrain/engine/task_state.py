"""The state of a task's engine as a checkpoint takes it: fp32 weights, optimizer states, and the best weights so far.

Each rank has what its ZeRO stage gives it, under the parameters' names, so that any number of ranks at any stage can
go on from it.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.state_shards import StateShard
from pretrain.config.optimizer import OptimizerConfig
from pretrain.engine.task_partitioning import whole_shape
from pretrain.engine.zero_partitions import FlatPartitions, ParameterPartitions
from pretrain.models.parameter_table import Constant, ParameterSpec
from pretrain.optimizers.optimizer import optimizer_kind_of
from pretrain.parallel.sharded_shape import ShardedShape

BEST = "best"
"""The state that holds a weight as it was when the validation was best."""


class TaskState:
    """What this rank keeps of an engine that `task_engine` made.

    Args:
        engine: the engine.
        optimizer: as the engine was made with.
    """

    def __init__(self, engine: Any, optimizer: OptimizerConfig) -> None:
        trained = [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]
        for name, parameter in trained:
            shape = whole_shape(parameter)
            parameter.spec = ParameterSpec(name, shape, "first", Constant(0.0))
            parameter.sharded_shape = ShardedShape(name, shape, shape)
        parameters = [parameter for _, parameter in trained]
        stage = int(engine.zero_optimization_stage())
        self._kept: _Kept
        if stage == 0:
            self._kept = _ReplicatedState(engine.optimizer, parameters, optimizer)
        else:
            kind = ParameterPartitions if stage == 3 else FlatPartitions
            self._kept = kind(engine.optimizer, parameters, optimizer)
        # Without shards every rank has the same: the first one writes it.
        self._owns = stage > 0 or torch.distributed.get_rank() == 0
        # On the host: a GPU needs them at no step.
        owned = self._kept.shards(self._is_owner) if self._owns else []
        self._best = [shard.tensors[MASTER].to("cpu", copy=True) for shard in owned]

    def shards(self) -> list[StateShard]:
        """Views of all of it; to load, fill them and call `restore`."""
        found = self._kept.shards(self._is_owner)
        for shard, best in zip(found, self._best):
            shard.tensors[BEST] = best
        return found

    def optimizer_step(self) -> int:
        """Steps that the optimizer has applied."""
        return self._kept.optimizer_step()

    def restore(self, optimizer_step: int) -> None:
        """Take up what was written into `shards`. Collective."""
        self._kept.restore(optimizer_step)

    def keep_best(self) -> bool:
        """Keep the weights as they are; whether all of them are finite, on all ranks. Collective."""
        finite = torch.ones((), device=_device_of_ranks())
        for shard in self.shards():
            weights = shard.tensors[MASTER]
            if not bool(torch.isfinite(weights).all()):
                finite.zero_()
            if self._owns:
                shard.tensors[BEST].copy_(weights)
        torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        return bool(finite)

    def take_best(self) -> None:
        """Set the module's weights to the kept ones (at stage 0 on the first rank alone). Collective."""
        for shard in self.shards() if self._owns else ():
            shard.tensors[MASTER].copy_(shard.tensors[BEST])
        self._kept.restore(self._kept.optimizer_step())

    def _is_owner(self, parameter: torch.nn.Parameter) -> bool:
        return self._owns


class _Kept(Protocol):
    def shards(self, is_owner: Any) -> list[StateShard]: ...

    def optimizer_step(self) -> int: ...

    def restore(self, optimizer_step: int) -> None: ...


class _ReplicatedState:
    """Stage 0: a plain optimizer of torch, whose states have the parameters' shapes; every rank has all of them."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], config: OptimizerConfig
    ) -> None:
        self._optimizer, self._parameters, self._config = optimizer, parameters, config

    def shards(self, is_owner: Any) -> list[StateShard]:
        """Views of weights and states."""
        found = []
        for parameter in self._parameters:
            state, spec = self._state(parameter), parameter.spec  # type: ignore[attr-defined]
            tensors = {MASTER: parameter.data.view(-1)}
            tensors |= {kept.name: state[kept.name].view(-1) for kept in self._config.kept_of(spec)}
            shape: ShardedShape = parameter.sharded_shape  # type: ignore[attr-defined]
            found.append(StateShard(shape, 0, shape.local_elements, tensors, is_owner(parameter)))
        return found

    def optimizer_step(self) -> int:
        """Steps that were applied; 0 where the optimizer does not count."""
        counted = [int(state["step"]) for state in map(self._state, self._parameters) if "step" in state]
        return counted[0] if counted else 0

    def restore(self, optimizer_step: int) -> None:
        """Set the count of steps; the rest was written in place."""
        for parameter in self._parameters:
            if "step" in (state := self._state(parameter)):
                state["step"].fill_(float(optimizer_step))

    def _state(self, parameter: torch.nn.Parameter) -> dict[str, Any]:
        state: dict[str, Any] = self._optimizer.state[parameter]
        if not state:
            state.update(optimizer_kind_of(self._config).initial_state(parameter.data, self._config))
        return state


def _device_of_ranks() -> torch.device:
    on_gpu = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
