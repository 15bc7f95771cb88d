"""Access to what DeepSpeed's ZeRO optimizers hold on this rank: gradients, fp32 master parameters, optimizer states.

Two classes with one interface: stages 1-2 partition the state as one flat range per parameter group, stage 3
partitions each parameter by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.state_shards import StateShard
from pretrain.config.optimizer import OptimizerConfig
from pretrain.optimizers.optimizer import optimizer_kind_of


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


class ZeroOptimizer(ABC):
    """What the engine and the checkpoint read and set of a DeepSpeed ZeRO optimizer."""

    def __init__(self, optimizer: Any, parameters: list[torch.nn.Parameter], config: OptimizerConfig) -> None:
        self.inner = optimizer
        self.parameters = parameters
        self.config = config

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
    def flats(self) -> list[torch.Tensor]:
        """The flat fp32 tensors of master parameters, one per group or sub-group."""

    @abstractmethod
    def copy_master_to_model(self) -> None:
        """Copy the fp32 master parameters into the module's parameters (after a load)."""

    def shards(self, is_owner: Callable[[torch.nn.Parameter], bool]) -> list[StateShard]:
        """Views of this rank's fp32 master parameters and optimizer states, for the checkpoint."""
        self._ensure_states()
        shards = []
        for owned in self.owned_ranges():
            end = owned.offset + owned.stop - owned.start
            state = self.inner.optimizer.state[owned.flat]
            self._refuse_undeclared(state)
            tensors = {MASTER: owned.flat.data[owned.offset : end]}
            tensors.update({spec.name: state[spec.name][owned.offset : end] for spec in self.config.states})
            shape = owned.parameter.sharded_shape  # type: ignore[attr-defined]
            shards.append(StateShard(shape, owned.start, owned.stop, tensors, is_owner(owned.parameter)))
        return shards

    def _refuse_undeclared(self, state: dict[str, Any]) -> None:
        """A state that the declaration does not name would be lost in every checkpoint."""
        declared = {"step", *(spec.name for spec in self.config.states)}
        for name, value in state.items():
            if value is not None and name not in declared:
                kind = type(self.config).__name__
                raise TypeError(
                    f"the optimizer {self.config.name} keeps the state {name!r}, which {kind}.states does not name"
                    f" (it names {', '.join(sorted(declared))}): no checkpoint would hold it"
                )

    def optimizer_step(self) -> int:
        """Steps that the optimizer has counted, such as for a bias correction; 0 if it counts none."""
        states = [state for state in self.inner.optimizer.state.values() if "step" in state]
        return int(states[0]["step"]) if states else 0

    def restore(self, optimizer_step: int) -> None:
        """After `shards` were filled: set the optimizer's count of steps, and the weights."""
        self._ensure_states()
        for flat in self.flats():
            state = self.inner.optimizer.state[flat]
            if "step" in state:
                state["step"].fill_(float(optimizer_step))
        self.copy_master_to_model()

    def _ensure_states(self) -> None:
        # An optimizer makes its states at its first step; a load or an early save needs them before.
        for flat in self.flats():
            state = self.inner.optimizer.state[flat]
            if not state:
                state.update(optimizer_kind_of(self.config).initial_state(flat.data))


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
            mapping = parameter._hp_mapping  # type: ignore[attr-defined]
            if mapping is None:
                continue
            here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            flat = self.inner.single_partition_of_fp32_groups[mapping.param_group_index]
            yield OwnedRange(parameter, here.start, here.start + here.numel, flat, there.start)

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
        zero = self.inner
        for parameter in self.parameters:
            group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
            total = parameter.ds_numel  # type: ignore[attr-defined]
            start = min(zero._get_param_partition_rank(parameter) * length, total)
            stop = min(start + length, total)
            if start < stop:
                yield OwnedRange(parameter, start, stop, zero.fp32_partitioned_groups_flat[group], offset)

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
