"""Access to what DeepSpeed's ZeRO optimizers hold on this rank: gradients, fp32 master parameters, optimizer states.

Two classes with one interface: stages 1-2 partition the state as one flat range per parameter group, stage 3
partitions each parameter by itself.
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

    def update_averages(self, decay: float) -> None:
        """After a step: move the weights' averages towards the weights."""
        for flat in self.flats():
            self.inner.optimizer.state[flat][AVERAGE.name].lerp_(flat.data, 1 - decay)


class FlatPartitions(ZeroOptimizer):
    """Stages 1 and 2, and 0, whose partition group is one rank.

    deepspeed/runtime/zero/stage_1_and_2.py:158 (DeepSpeedZeroOptimizer)
    """

    def begin_step(self) -> None:
        """Nothing: gradients are released by the step before."""

    def gradient_shards(self) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """See the base class."""
        zero = self.inner
        for group, parameters in enumerate(zero.params_in_partition):
            if zero.cpu_offload:
                flat = zero.single_partition_of_fp32_groups[group].grad.view(-1)
                for parameter in parameters:
                    _, _, offset, count = zero.grad_position[zero.get_param_id(parameter)]
                    yield parameter, flat.narrow(0, offset, count)
            else:
                shards = (g for g in zero.averaged_gradients[group] if not getattr(g, "_zero_padding", False))
                yield from zip(parameters, shards)

    def before_step(self, measure: Callable[[], tuple[torch.Tensor, bool]]) -> None:
        """See the base class."""
        zero = self.inner
        norm = torch.zeros(())

        def check_overflow(partition_gradients: bool = True) -> None:
            nonlocal norm
            norm, may_apply = measure()
            zero.overflow = not may_apply

        # deepspeed/runtime/zero/stage_1_and_2.py:3030 (step) checks for overflow before all else, and
        # deepspeed/runtime/zero/stage_1_and_2.py:3039 (step) takes the norm after that.
        zero.check_grad_overflow = True
        zero.check_overflow = check_overflow
        zero.scaled_global_norm = lambda norm_type=2: norm

    def owned_ranges(self) -> Iterator[OwnedRange]:
        """See the base class."""
        for parameter in self.parameters:
            if (owned := self._range(parameter)) is not None:
                yield owned

    def _range(self, parameter: torch.nn.Parameter) -> OwnedRange | None:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
        flat = self.inner.single_partition_of_fp32_groups[mapping.param_group_index]
        return OwnedRange(parameter, here.start, here.start + here.numel, flat, there.start)

    def ranges_by_flat(self) -> Iterator[tuple[torch.Tensor, list[OwnedRange]]]:
        """See the base class."""
        for flat, parameters in zip(self.flats(), self.inner.bit16_groups):
            yield flat, [self._range(parameter) or OwnedRange(parameter, 0, 0, flat, 0) for parameter in parameters]

    def flats(self) -> list[torch.Tensor]:
        """See the base class."""
        return list(self.inner.single_partition_of_fp32_groups)

    def copy_master_to_model(self) -> None:
        """See the base class."""
        self.inner.update_lp_params()
        for group in range(len(self.inner.bit16_groups)):
            self.inner._update_model_bit16_weights(group)


class ParameterPartitions(ZeroOptimizer):
    """Stage 3: deepspeed/runtime/zero/stage3.py:152 (DeepSpeedZeroOptimizer_Stage3)."""

    def begin_step(self) -> None:
        """Zero the gradient buffer and have every micro-batch added to it.

        Upstream's "the first micro-batch copies, the others add" is decided for the whole engine by micro_step_id
        at deepspeed/runtime/zero/stage3.py:2024 (partition_grads), not for each parameter.
        """
        self.inner.grad_partitions_flat_buffer.zero_()
        self.inner.micro_step_id = 1

    def gradient_shards(self) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """See the base class."""
        zero = self.inner
        partitions = zero._DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition
        for owned in self.owned_ranges():
            count = owned.stop - owned.start
            if zero.offload_optimizer:
                yield owned.parameter, owned.flat.grad.narrow(0, owned.offset, count)  # type: ignore[union-attr]
            else:
                yield owned.parameter, partitions[owned.parameter.ds_id].view(-1).narrow(0, 0, count)  # type: ignore[attr-defined]

    def before_step(self, measure: Callable[[], tuple[torch.Tensor, bool]]) -> None:
        """See the base class."""
        zero = self.inner
        norm = torch.zeros(())

        def check(update_scale: bool = True) -> bool:
            nonlocal norm
            norm, may_apply = measure()
            zero.overflow = not may_apply
            return zero._loss_scale_update_and_overflow_cleanup() if update_scale else zero.overflow

        # deepspeed/runtime/zero/stage3.py:2882 (step) checks for overflow before all else, and
        # deepspeed/runtime/zero/stage3.py:2886 (step) takes the norms after that.
        zero._overflow_check_and_loss_scale_update = check
        zero._get_norm_groups = lambda: [norm]

    def owned_ranges(self) -> Iterator[OwnedRange]:
        """See the base class."""
        for parameter in self.parameters:
            if (owned := self._range(parameter)).start < owned.stop:
                yield owned

    def _range(self, parameter: torch.nn.Parameter) -> OwnedRange:
        zero = self.inner
        group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
        total = parameter.ds_numel  # type: ignore[attr-defined]
        start = min(zero._get_param_partition_rank(parameter) * length, total)
        return OwnedRange(
            parameter, start, min(start + length, total), zero.fp32_partitioned_groups_flat[group], offset
        )

    def ranges_by_flat(self) -> Iterator[tuple[torch.Tensor, list[OwnedRange]]]:
        """See the base class."""
        found: dict[torch.Tensor, list[OwnedRange]] = {flat: [] for flat in self.flats()}
        for parameter in self.parameters:
            owned = self._range(parameter)
            found[owned.flat].append(owned)
        yield from found.items()

    def flats(self) -> list[torch.Tensor]:
        """See the base class."""
        return list(self.inner.fp32_partitioned_groups_flat)

    def copy_master_to_model(self) -> None:
        """See the base class."""
        zero = self.inner
        zero.checkpoint_event_prologue()
        for group, master in enumerate(zero.fp32_partitioned_groups_flat):
            weights = zero.fp16_partitioned_groups_flat[group]
            if weights.data_ptr() != master.data_ptr():
                weights.data.copy_(master.data)
            zero._unflatten_partitioned_parameters(group)
        zero.checkpoint_event_epilogue()
