"""Starts the process groups; this rank's place in them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from pretrain.engine import cpu_bridge, random_state
from pretrain.engine.meeting import REPORT_AFTER_S
from pretrain.engine.processes import choose_device, join_ranks, launcher_variables, leave_ranks
from pretrain.models.family import StagePlace
from pretrain.optimizers.parameter_slices import SliceRanks
from pretrain.parallel.launch import Launch
from pretrain.parallel.layout import Layout


@dataclass(frozen=True)
class Topology:
    """The place of this rank on every parallel axis, and its process groups.

    Attributes:
        layout: sizes of the axes.
        rank: number of this process.
        tensor_rank: place in its tensor group.
        pipeline_rank: its stage.
        data_rank: place in its data group.
        device: where its tensors live.
    """

    layout: Layout
    rank: int
    tensor_rank: int
    pipeline_rank: int
    data_rank: int
    device: torch.device

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank embeds tokens."""
        return self.pipeline_rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank computes the loss."""
        return self.pipeline_rank == self.layout.pipeline - 1

    @property
    def place(self) -> StagePlace:
        """Which part of the network this rank builds."""
        return StagePlace(self.pipeline_rank, self.layout.pipeline, self.tensor_rank, self.layout.tensor)

    @property
    def tensor_group(self) -> dist.ProcessGroup:
        """Ranks that share each layer's matrices with this one."""
        return parallel_state.get_tensor_model_parallel_group()

    @property
    def data_group(self) -> dist.ProcessGroup:
        """Ranks that hold the same part of the model."""
        return parallel_state.get_data_parallel_group(with_context_parallel=True)

    @property
    def embedding_group(self) -> dist.ProcessGroup | None:
        """First and last stage of this rank's pipeline; None on a stage between."""
        if not parallel_state.is_rank_in_embedding_group(ignore_virtual=True):
            return None
        return parallel_state.get_embedding_group()

    def slice_ranks(self, *, divides_shards: bool) -> SliceRanks:
        """The ranks that have the other parts of this rank's parameters.

        Args:
            divides_shards: whether data ranks divide the optimizer's work on a tensor rank's shards.
        """
        divided, cut = divides_shards and self.layout.data > 1, self.layout.tensor > 1
        plane = None
        if divided and cut:
            plane = parallel_state.get_tensor_and_data_parallel_group(with_context_parallel=True)
        elif divided or cut:
            plane = self.data_group if divided else self.tensor_group
        return SliceRanks(
            device=self.device,
            data_group=self.data_group if divided else None,
            tensor_group=self.tensor_group if cut else None,
            plane_group=plane,
        )


def start(launch: Launch, layout: Layout, report_waiting_after_s: float = REPORT_AFTER_S) -> Topology:
    """Start torch.distributed and megatron's groups for `layout`; see `join_ranks`.

    Raises:
        MachineError: if the ranks cannot meet (port in use, address unknown, peers missing).
    """
    device = choose_device(launch)
    if not dist.is_initialized():
        os.environ.update(launcher_variables(launch, device))
        join_ranks(launch, device, report_after_s=report_waiting_after_s)
    cpu_bridge.install()
    random_state.install()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor, pipeline_model_parallel_size=layout.pipeline
    )
    return Topology(
        layout=layout,
        rank=dist.get_rank(),
        tensor_rank=parallel_state.get_tensor_model_parallel_rank(),
        pipeline_rank=parallel_state.get_pipeline_model_parallel_rank(),
        data_rank=parallel_state.get_data_parallel_rank(with_context_parallel=True),
        device=device,
    )


def stop() -> None:
    """Destroy the process groups."""
    parallel_state.destroy_model_parallel()
    leave_ranks()
