"""What is done to the gradients between the last micro-batch and the optimizer: sums that no one else does, the norm.

DeepSpeed reduces over the data group only, and takes its norm once per parameter group, so that stages with other
groups hang and tied weights count twice. Here each kind of sum is one all-reduce, and the norm is one for the world.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from pretrain.engine.topology import Topology
from pretrain.engine.zero_optimizer import ZeroOptimizer
from pretrain.models.parameters import TIED_WEIGHT


@dataclass
class StepNumbers:
    """What a step was, over all ranks.

    Attributes:
        loss: mean loss of the global batch, nats per token.
        grad_norm: norm of the unclipped gradient.
        votes: each vote summed over the ranks.
    """

    loss: float
    grad_norm: float
    votes: list[float]


class GradientFinisher:
    """Finishes the gradients of one step."""

    def __init__(self, zero: ZeroOptimizer, topology: Topology, *, zero_stage: int, tied: bool) -> None:
        self.zero = zero
        self.topology = topology
        self.averages_over_data = zero_stage == 0 and topology.layout.data > 1
        self.counts_own_data = zero_stage > 0 or topology.data_rank == 0
        self.has_tied_copies = tied and topology.layout.pipeline > 1
        self.last = StepNumbers(0.0, 0.0, [])
        self._expected = torch.zeros(1, device=topology.device)
        zero.before_step(self.finish)

    def expect(self, loss_share: torch.Tensor, votes: list[float]) -> None:
        """Take what is to be summed over all ranks together with the norm, in one all-reduce.

        Args:
            loss_share: this rank's share of the mean loss.
            votes: what this rank wishes, such as 1.0 for a stop; as many on every rank.
        """
        self._expected = torch.cat([loss_share.float().reshape(1), torch.tensor(votes, device=loss_share.device)])

    def finish(self) -> tuple[torch.Tensor, bool]:
        """Finish the gradients in place.

        Returns:
            Their global norm, scaled by the loss scale, and whether the step may be applied: loss and norm are finite
            on every rank.
        """
        shards = list(self.zero.gradient_shards())
        if self.averages_over_data:
            self.average_over_data(shards)
        if self.topology.layout.tensor > 1:
            self.sum_sequence_parallel(shards)
        if self.has_tied_copies and self.topology.embedding_group is not None:
            self.sum_tied(shards)
        totals = torch.cat([self.local_square_sum(shards).reshape(1), self._expected])
        dist.all_reduce(totals)
        norm = totals[0].sqrt()
        scaled_norm, loss, *votes = [float(norm), *totals[1:].tolist()]
        finite = math.isfinite(scaled_norm) and math.isfinite(loss)
        self.last = StepNumbers(loss, scaled_norm / self.zero.loss_scale, votes)
        return norm, finite

    def average_over_data(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """ZeRO stage 0: the mean over data ranks, which higher stages take while they partition."""
        self._all_reduce([g for _, g in shards], self.topology.data_group, divide_by=self.topology.layout.data)

    def sum_sequence_parallel(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """Under sequence parallelism each tensor rank saw a part of the sequence in norms and row-parallel biases."""
        partial = [g for p, g in shards if getattr(p, "sequence_parallel", False)]
        self._all_reduce(partial, self.topology.tensor_group)

    def sum_tied(self, shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """The first and the last stage each have a copy of the tied embedding, and a part of its gradient."""
        tied = [g for p, g in shards if p.global_name == TIED_WEIGHT]  # type: ignore[attr-defined]
        self._all_reduce(tied, self.topology.embedding_group)

    def local_square_sum(self, shards: Iterable[tuple[torch.nn.Parameter, torch.Tensor]]) -> torch.Tensor:
        """Sum of squares of what this rank alone counts."""
        counted = [g for p, g in shards if self.is_counted(p)]
        if not counted:
            return torch.zeros((), device=self.topology.device)
        norms = torch._foreach_norm([g.float() for g in counted])
        return torch.stack(norms).square().sum().to(self.topology.device)

    def is_counted(self, parameter: torch.nn.Parameter) -> bool:
        """Whether this rank speaks for its shard of `parameter`, which other ranks may hold too."""
        if not self.counts_own_data:
            return False
        if not parameter.tensor_model_parallel and self.topology.tensor_rank != 0:  # type: ignore[attr-defined]
            return False
        is_copy = self.has_tied_copies and not self.topology.is_first_stage
        return not (is_copy and parameter.global_name == TIED_WEIGHT)  # type: ignore[attr-defined]

    def _all_reduce(self, gradients: list[torch.Tensor], group: dist.ProcessGroup | None, divide_by: int = 1) -> None:
        if not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients]).to(self.topology.device)
        dist.all_reduce(flat, group=group)
        if divide_by > 1:
            flat /= divide_by
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))
