"""DeepSpeed's two ZeRO optimizers behind one interface.

Stages 1 and 2 partition the state as one flat range per parameter group, stage 3 partitions each parameter by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from pretrain.engine.zero_optimizer import OwnedRange, ZeroOptimizer


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
