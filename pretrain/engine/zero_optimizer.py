"""Access to what DeepSpeed's ZeRO optimizers hold on this rank: gradients, fp32 master parameters, optimizer states.

What each of the two classes of DeepSpeed needs is in `zero_partitions.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.state_shards import StateShard
from pretrain.config.optimizer import AVERAGE, OptimizerConfig, StateSpec
from pretrain.optimizers.optimizer import optimizer_kind_of
from pretrain.optimizers.parameter_optimizer import ParameterOptimizer
from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks


@dataclass(frozen=True)
class OwnedRange:
    """A flat range of one parameter whose state this rank keeps.

    Attributes:
        parameter: the module's parameter.
        start: first element of the parameter's local (tensor-parallel) shard.
        stop: one past the last.
        flat: the flat fp32 tensor of master parameters that holds it.
        offset: where it begins there.
    """

    parameter: torch.nn.Parameter
    start: int
    stop: int
    flat: torch.Tensor
    offset: int


def parameter_slice(owned: OwnedRange) -> ParameterSlice:
    """The range as an optimizer takes it."""
    spec, shape = owned.parameter.spec, owned.parameter.sharded_shape  # type: ignore[attr-defined]
    return ParameterSlice(spec, shape, owned.start, owned.stop, owned.offset)


class ZeroOptimizer(ABC):
    """What the engine and the checkpoint read and set of a DeepSpeed ZeRO optimizer."""

    def __init__(
        self,
        optimizer: Any,
        parameters: list[torch.nn.Parameter],
        config: OptimizerConfig,
        *,
        is_first_data_rank: bool = True,
    ) -> None:
        self.inner = optimizer
        self.parameters = parameters
        self.config = config
        self.is_first_data_rank = is_first_data_rank

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's groups, to set learning rates in."""
        return self.inner.param_groups

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by before its backward pass; 1 without fp16."""
        return float(self.inner.loss_scale)

    @abstractmethod
    def begin_step(self) -> None:
        """Prepare the gradient buffers for the first micro-batch of a step."""

    @abstractmethod
    def gradient_shards(self) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """At the step: each parameter with the part of its accumulated gradient that this rank keeps."""

    @abstractmethod
    def before_step(self, measure: Callable[[], tuple[torch.Tensor, bool]]) -> None:
        """Have `measure` called at each step, before anything is applied.

        It finishes the gradients and returns their global norm (scaled by `loss_scale`, in host memory) and whether
        the step may be applied.
        """

    @abstractmethod
    def owned_ranges(self) -> Iterator[OwnedRange]:
        """The ranges whose fp32 master parameters and optimizer states this rank keeps."""

    @abstractmethod
    def ranges_by_flat(self) -> Iterator[tuple[torch.Tensor, list[OwnedRange]]]:
        """Each of `flats` with the ranges of all parameters that it is for; empty ones where other ranks have all."""

    @abstractmethod
    def flats(self) -> list[torch.Tensor]:
        """The flat fp32 tensors of master parameters, one per group or sub-group."""

    @abstractmethod
    def copy_master_to_model(self) -> None:
        """Copy the fp32 master parameters into the module's parameters (after a load)."""

    def shards(self, is_owner: Callable[[torch.nn.Parameter], bool]) -> list[StateShard]:
        """Views of this rank's fp32 master parameters and optimizer states, for the checkpoint."""
        self.ensure_states()
        shards = []
        for owned in self.owned_ranges():
            end = owned.offset + owned.stop - owned.start
            state = self.inner.optimizer.state[owned.flat]
            declared = self.config.kept_of(owned.parameter.spec)  # type: ignore[attr-defined]
            self._refuse_undeclared(state, declared)
            tensors = {MASTER: owned.flat.data[owned.offset : end]}
            kept = [spec.name for spec in declared if spec.extent == "element"]
            tensors.update({name: state[name][owned.offset : end] for name in kept})
            shape = owned.parameter.sharded_shape  # type: ignore[attr-defined]
            shards.append(StateShard(shape, owned.start, owned.stop, tensors, is_owner(owned.parameter)))
        return shards + self._shards_by_line(is_owner)

    def _shards_by_line(self, is_owner: Callable[[torch.nn.Parameter], bool]) -> list[StateShard]:
        """Of the states that have a number per row or column; every data rank has all of its tensor rank's."""
        base = self.inner.optimizer
        if not isinstance(base, ParameterOptimizer):
            return []
        shards = []
        for flat, ranges in self.ranges_by_flat():
            for owned in ranges:
                part = parameter_slice(owned)
                for spec in self.config.kept_of(part.spec):
                    if spec.extent == "element":
                        continue
                    shape = part.state_shape(spec)
                    owner = self.is_first_data_rank and is_owner(owned.parameter)
                    if shape.tensor_axis is None and shape.tensor_rank:
                        owner = False
                    values = base.state[flat][spec.name][part.spec.name].view(-1)
                    shards.append(StateShard(shape, 0, shape.local_elements, {spec.name: values}, owner))
        return shards

    def attach(self, ranks: SliceRanks) -> None:
        """Tell an optimizer that looks at whole parameters where they lie. Collective."""
        base = self.inner.optimizer
        if isinstance(base, ParameterOptimizer):
            base.attach({flat: list(map(parameter_slice, ranges)) for flat, ranges in self.ranges_by_flat()}, ranks)

    def _refuse_undeclared(self, state: dict[str, Any], specs: Iterable[StateSpec]) -> None:
        """A state that the declaration does not name would be lost in every checkpoint."""
        declared = {"step", *(spec.name for spec in specs)}
        for name, value in state.items():
            if value is not None and name not in declared:
                kind = type(self.config).__name__
                raise TypeError(
                    f"the optimizer {self.config.name} keeps the state {name!r}, which {kind} does not name"
                    f" (it names {', '.join(sorted(declared))}): no checkpoint would hold it"
                )

    def optimizer_step(self) -> int:
        """Steps that the optimizer has counted, such as for a bias correction; 0 if it counts none."""
        states = [state for state in self.inner.optimizer.state.values() if "step" in state]
        return int(states[0]["step"]) if states else 0

    def restore(self, optimizer_step: int) -> None:
        """After `shards` were filled: set the optimizer's count of steps, and the weights."""
        self.ensure_states()
        for flat in self.flats():
            state = self.inner.optimizer.state[flat]
            if "step" in state:
                state["step"].fill_(float(optimizer_step))
        self.copy_master_to_model()

    def ensure_states(self) -> None:
        """Make the states that an optimizer makes at its first step; a load or an early save needs them before."""
        for flat in self.flats():
            state = self.inner.optimizer.state[flat]
            if state:
                continue
            if isinstance(base := self.inner.optimizer, ParameterOptimizer):
                state.update(base.initial_state(flat))
            else:
                state.update(optimizer_kind_of(self.config).initial_state(flat.data, self.config))
            if self.config.average_decay is not None:
                state[AVERAGE.name] = flat.data.clone()

    def begin_averages(self) -> None:
        """Have the weights' averages begin with the weights as they are."""
        for flat in self.flats():
            self.inner.optimizer.state[flat][AVERAGE.name].copy_(flat.data)

    def update_averages(self, decay: float) -> None:
        """After a step: move the weights' averages towards the weights."""
        for flat in self.flats():
            self.inner.optimizer.state[flat][AVERAGE.name].lerp_(flat.data, 1 - decay)
