"""ZeRO-3's partitions of a task's network, filled one whole tensor after the other: no rank ever holds all of it.

DeepSpeed itself wants every parameter whole on every rank before it partitions any.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
import xxhash

from pretrain.engine.deepspeed_config import deepspeed_settings
from pretrain.engine.partitioning import partition_into
from pretrain.engine.upstream import import_deepspeed


class Partitioner:
    """Makes parameters that exist as this rank's partition alone, as the engine of `task_engine` takes them.

    Args:
        precision: of the engine.
        micro_batch_size: as the engine will be told.
    """

    def __init__(self, precision: Literal["fp32", "bf16"], micro_batch_size: int) -> None:
        import_deepspeed()
        from deepspeed.runtime.zero.partition_parameters import Init

        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        settings = deepspeed_settings(
            zero={"stage": 3, "stage3_param_persistence_threshold": 0},
            precision=precision,
            micro_batch_size=micro_batch_size,
            clip_grad_norm=0.0,
        )
        self._init: Any = Init(dtype=self._dtype, config_dict_or_path=settings)

    def partition(self, whole: torch.Tensor, requires_grad: bool = True) -> torch.nn.Parameter:
        """A parameter of the shape and values of `whole`, of which this rank keeps its part.

        Args:
            whole: fp32 on the CPU, the same on every rank.
            requires_grad: whether it is trained.
        """
        init, ranks = self._init, dist.get_world_size()
        # One element stands for all of them: DeepSpeed asks for the shape and frees the rest.
        shape_alone = torch.empty(1, dtype=self._dtype, device=init.local_device).expand(whole.shape)
        parameter = torch.nn.Parameter(shape_alone, requires_grad)
        init._convert_to_deepspeed_param(parameter)
        memory = torch.zeros(-(-whole.numel() // ranks), dtype=self._dtype, device=init.local_device)
        partition = partition_into(memory, init, parameter)
        start = min(partition.numel() * dist.get_rank(), whole.numel())
        stop = min(start + partition.numel(), whole.numel())
        partition[: stop - start].copy_(whole.reshape(-1)[start:stop])
        parameter.whole_hash = tensor_hash(whole)  # type: ignore[attr-defined]
        return parameter


def tensor_hash(tensor: torch.Tensor) -> str:
    """xxh3 of the values of a whole tensor on the CPU."""
    return xxhash.xxh3_64_hexdigest(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)


def whole_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter, also of one of which there is a partition alone."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def whole_hash(parameter: torch.nn.Parameter) -> str:
    """`tensor_hash` of a parameter as it was built, also of one of which there is a partition alone."""
    found: str | None = getattr(parameter, "whole_hash", None)
    return tensor_hash(parameter) if found is None else found
