"""megatron-core's process groups under the method names that DeepSpeed calls on its `mpu`."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state


class GroupAdapter:
    """What DeepSpeed gets as `mpu`.

    Its model-parallel group is tensor x pipeline, its model-parallel rank the tensor rank, and its data-parallel
    group the ranks over which state is partitioned: this rank alone at ZeRO stage 0.
    """

    def __init__(self, *, partitions: bool) -> None:
        self._alone = None
        if not partitions:
            self._alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("get_"):
            return getattr(parallel_state, name)
        raise AttributeError(name)

    def get_model_parallel_rank(self) -> int:
        """The tensor rank: DeepSpeed takes rank 0's copy of what tensor ranks replicate."""
        return parallel_state.get_tensor_model_parallel_rank()

    def get_model_parallel_world_size(self) -> int:
        """Ranks of one tensor x pipeline plane."""
        return dist.get_world_size(self.get_model_parallel_group())

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """One tensor x pipeline plane."""
        return parallel_state.get_model_parallel_group()

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        """The ranks over which state is partitioned."""
        return self._alone or parallel_state.get_data_parallel_group(with_context_parallel=True)

    def get_data_parallel_rank(self) -> int:
        """The number of this rank within `get_data_parallel_group`."""
        return dist.get_rank(self.get_data_parallel_group())

    def get_data_parallel_world_size(self) -> int:
        """Ranks in `get_data_parallel_group`."""
        return dist.get_world_size(self.get_data_parallel_group())
