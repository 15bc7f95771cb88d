"""The gradients between the last micro-batch and the optimizer: the all-reduces that DeepSpeed leaves out, the norm.

DeepSpeed reduces over the data group only, and takes its norm once per parameter group, so that stages with other
groups hang and tied weights count twice. Here each kind of sum is one all-reduce, and the norm is one for the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from pretrain.engine.norms import square_sum
from pretrain.engine.topology import Topology
from pretrain.engine.zero_optimizer import ZeroOptimizer

Shards = list[tuple[torch.nn.Parameter, torch.Tensor]]
"""Parameters, each with the part of its gradient that this rank keeps."""


@dataclass
class StepNumbers:
    """Losses, gradient norm and flags of a step, over all ranks.

    Attributes:
        losses: mean of each loss over the global batch.
        grad_norm: norm of the unclipped gradient.
        flags: each flag summed over the ranks.
    """

    losses: list[float]
    grad_norm: float
    flags: list[float]


class GradientFinisher:
    """Completes the gradients of a step: the all-reduces that are still missing, the norm, the check for finiteness."""

    def __init__(
        self,
        zero: ZeroOptimizer,
        topology: Topology,
        *,
        zero_stage: int,
        sequence_parallel: bool,
        communication_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.zero = zero
        self.communication_dtype = communication_dtype
        self.topology = topology
        self.averages_over_data = zero_stage == 0 and topology.layout.data > 1
        self.counts_own_data = zero_stage > 0 or topology.data_rank == 0
        self.has_copies = topology.layout.pipeline > 1
        self.sequence_parallel = sequence_parallel
        self.last = StepNumbers([], 0.0, [])
        self.observe: Callable[[Shards], None] | None = None
        """Called with the finished gradients, where something measures them."""
        self._num_losses = 0
        self._expected = torch.zeros(1, device=topology.device, dtype=torch.float64)
        zero.before_step(self.finish)

    def expect(self, loss_shares: torch.Tensor, flags: list[float]) -> None:
        """Take what is to be summed over all ranks together with the norm, in one all-reduce.

        Args:
            loss_shares: this rank's share of each mean loss, [losses].
            flags: what this rank asks for, such as 1.0 for a stop; as many on every rank.
        """
        self._num_losses = len(loss_shares)
        own_flags = torch.tensor(flags, dtype=torch.float64).to(loss_shares.device, non_blocking=True)
        self._expected = torch.cat([loss_shares.double(), own_flags])

    def finish(self) -> tuple[torch.Tensor, bool]:
        """Finish the gradients in place; the one place of a step in our code that waits for the device, before and
        after the sums where the gradients are in host memory.

        Returns:
            Their global norm, scaled by the loss scale, in host memory, so that nothing that is computed from it waits
            again; and whether the step may be applied: loss and norm are finite on every rank.
        """
        shards = list(self.zero.gradient_shards())
        wait_for_copies_to_host([g for _, g in shards], self.topology.device)
        if self.averages_over_data:
            self.average_over_data(shards)
        if self.sequence_parallel:
            self.sum_sequence_parallel(shards)
        if self.topology.layout.tensor > 1:
            self.sum_tensor_partial(shards)
        if self.has_copies and self.topology.embedding_group is not None:
            self.sum_tied(shards)
        if self.observe is not None:
            self.observe(shards)
        totals = torch.cat([self.local_square_sum(shards).reshape(1), self._expected])
        dist.all_reduce(totals)
        squares, *found = totals.tolist()
        scaled_norm = math.sqrt(squares)
        losses, flags = found[: self._num_losses], found[self._num_losses :]
        finite = all(map(math.isfinite, [scaled_norm, *losses]))
        self.last = StepNumbers(losses, scaled_norm / self.zero.loss_scale, flags)
        return torch.tensor(scaled_norm, dtype=torch.float32), finite

    def average_over_data(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """ZeRO stage 0: the mean over data ranks, which higher stages take while they partition."""
        gradients = [g for _, g in shards]
        group, ranks = self.topology.data_group, self.topology.layout.data
        self._all_reduce(gradients, group, divide_by=ranks, dtype=self.communication_dtype)

    def sum_sequence_parallel(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """Each tensor rank saw a part of the sequence in what the table calls `sequence_partial`, such as norms."""
        partial = [g for p, g in shards if p.spec.sequence_partial]  # type: ignore[attr-defined]
        self._all_reduce(partial, self.topology.tensor_group)

    def sum_tensor_partial(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """Each tensor rank saw its own heads in what the table calls `tensor_partial`, such as norms of queries."""
        partial = [g for p, g in shards if p.spec.tensor_partial]  # type: ignore[attr-defined]
        self._all_reduce(partial, self.topology.tensor_group)

    def sum_tied(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """The first and the last stage each have a copy of what is tied, and a part of its gradient."""
        tied = [g for p, g in shards if p.spec.is_tied]  # type: ignore[attr-defined]
        self._all_reduce(tied, self.topology.embedding_group)

    def local_square_sum(self, shards: Iterable[tuple[torch.nn.Parameter, torch.Tensor]]) -> torch.Tensor:
        """Sum of squares of what this rank alone counts, fp64."""
        return square_sum((g for p, g in shards if self.is_counted(p)), self.topology.device)

    def is_counted(self, parameter: torch.nn.Parameter) -> bool:
        """Whether this rank's shard of `parameter` counts in norms and is saved: of replicas, exactly one does."""
        if not self.counts_own_data:
            return False
        if not parameter.tensor_model_parallel and self.topology.tensor_rank != 0:  # type: ignore[attr-defined]
            return False
        is_copy = self.has_copies and not self.topology.is_first_stage
        return not (is_copy and parameter.spec.is_tied)  # type: ignore[attr-defined]

    def _all_reduce(
        self,
        gradients: list[torch.Tensor],
        group: dist.ProcessGroup | None,
        divide_by: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients]).to(self.topology.device, dtype)
        dist.all_reduce(flat, group=group)
        if divide_by > 1:
            flat /= divide_by
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))


def wait_for_copies_to_host(gradients: list[torch.Tensor], device: torch.device) -> None:
    """With an offloaded optimizer: let `device` end its copies into pinned memory; DeepSpeed only starts them."""
    if device.type == "cuda" and any(gradient.device.type == "cpu" for gradient in gradients):
        torch.cuda.current_stream(device).synchronize()
