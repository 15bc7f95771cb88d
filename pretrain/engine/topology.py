"""Starts the process groups, and says where this rank stands in them."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from configs.errors import MachineError
from pretrain.engine import cpu_bridge, random_state
from pretrain.parallel.launch import Launch
from pretrain.parallel.layout import Layout

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Topology:
    """Where this rank stands.

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


def start(launch: Launch, layout: Layout) -> Topology:
    """Start torch.distributed and megatron's groups for `layout`.

    Raises:
        MachineError: if the ranks cannot meet (port in use, address unknown, peers missing).
    """
    device = _choose_device(launch)
    if not dist.is_initialized():
        _start_torch(launch, device)
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
    """Take the process groups down."""
    parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()


def _choose_device(launch: Launch) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 1 and launch.launcher == "srun":
        # srun --gpus-per-task shows each task its own GPU only.
        torch.cuda.set_device(0)
        return torch.device("cuda", 0)
    if launch.local_rank >= count:
        raise MachineError(
            f"local rank {launch.local_rank} has no GPU of its own: this machine shows {count}",
            where="launcher",
            expected=f"at most {count} processes on this machine",
        )
    torch.cuda.set_device(launch.local_rank)
    return torch.device("cuda", launch.local_rank)


def _start_torch(launch: Launch, device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    options: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    _export(launch)
    if launch.master_address is None:
        # One process needs no port: nothing that could be in use.
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, **options)
        return
    try:
        dist.init_process_group(
            backend,
            init_method=f"tcp://{launch.master_address}:{launch.master_port}",
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=COLLECTIVE_TIMEOUT,
            **options,
        )
    except (dist.DistError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise MachineError(
            f"rank {launch.rank} of {launch.world_size} could not meet the others: {reason}",
            where=f"{launch.master_address}:{launch.master_port}",
            expected="an address that every rank reaches and a port that is free (MASTER_ADDR, MASTER_PORT)",
        ) from None


def _export(launch: Launch) -> None:
    """Say to libraries in torchrun's words what another launcher said in its own."""
    os.environ.update(
        RANK=str(launch.rank),
        WORLD_SIZE=str(launch.world_size),
        LOCAL_RANK=str(launch.local_rank),
        LOCAL_WORLD_SIZE=str(launch.local_world_size),
    )
    if launch.master_address is not None:
        os.environ.update(MASTER_ADDR=launch.master_address, MASTER_PORT=str(launch.master_port))
