"""ZeRO-3's parameters made as partitions from the start: no rank ever holds a whole one.

DeepSpeed itself partitions parameters that exist as a whole on every rank, and broadcasts each from rank 0.
"""

from __future__ import annotations

from typing import Any

import torch

from pretrain.engine.group_adapter import GroupAdapter
from pretrain.models.initialization import Fill, materialize, replace_parameters


def give_memory(
    module: torch.nn.Module, settings: dict[str, Any], groups: GroupAdapter, device: torch.device, fill: Fill
) -> None:
    """Give every parameter of a built stage its memory and its values: whole ones, or at stage 3 its partition.

    Args:
        module: the stage, without memory.
        settings: the DeepSpeed config of the engine that takes it.
        groups: says over which ranks a parameter is partitioned.
        device: where its tensors live.
        fill: writes a part of a parameter.
    """
    if settings["zero_optimization"]["stage"] == 3:
        materialize_partitioned(module, settings, groups, fill)
    else:
        materialize(module, device, fill)


def materialize_partitioned(
    module: torch.nn.Module, settings: dict[str, Any], groups: GroupAdapter, fill: Fill
) -> None:
    """Give every parameter of a built stage its partition on this rank, and the values of that alone.

    What is made is what DeepSpeed makes, so that its engine takes the module as partitioned already.

    Args:
        module: the stage, without memory.
        settings: the DeepSpeed config of the engine that takes it.
        groups: says over which ranks a parameter is partitioned.
        fill: writes a part of a parameter.
    """
    from deepspeed.runtime.zero.partition_parameters import Init

    parameters = list(module.parameters())
    dtype, ranks = parameters[0].dtype, groups.get_data_parallel_world_size()
    init = Init(
        data_parallel_group=groups.get_data_parallel_group(), dtype=dtype, config_dict_or_path=settings, mpu=groups
    )
    # One allocation: the engine moves all of them into its own, and this one is free again at once.
    sizes = [-(-parameter.numel() // ranks) for parameter in parameters]
    memory = iter(torch.zeros(sum(sizes), dtype=dtype, device=init.local_device).split(sizes))

    def partitioned(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        # One element stands for all of them: DeepSpeed asks for the shape and frees the rest.
        whole = torch.empty(1, dtype=parameter.dtype, device=init.local_device).expand(parameter.shape)
        new = torch.nn.Parameter(whole, parameter.requires_grad)
        init._convert_to_deepspeed_param(new)
        partition = partition_into(next(memory).detach(), init, new)
        start = min(partition.numel() * init.rank, parameter.numel())
        stop = min(start + partition.numel(), parameter.numel())
        fill(parameter.spec, parameter.sharded_shape, start, stop, partition[: stop - start])  # type: ignore[attr-defined]
        return new

    replace_parameters(module, partitioned)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(init.local_device)


def partition_into(memory: torch.Tensor, init: Any, parameter: torch.nn.Parameter) -> torch.Tensor:
    """Leave `parameter` in the state of a partitioned one whose partition is `memory`, which is returned.

    deepspeed/runtime/zero/partition_parameters.py:1855 (_partition_param): cuts the partition out of a whole
    parameter, which would have to exist, and be filled, first.

    Args:
        memory: flat, of as many elements as a partition has.
        init: the `deepspeed.zero.Init` that has converted the parameter.
        parameter: of the right shape; its memory is not looked at.
    """
    from deepspeed.runtime.zero.partition_parameters import PartitionedParamStatus, free_param

    aligned = init._aligned_size(parameter)
    partition: Any = memory
    partition.ds_numel = aligned // init._partition_world_size(parameter)
    partition.status = PartitionedParamStatus.AVAILABLE
    partition.final_location = None
    parameter.ds_tensor = partition  # type: ignore[attr-defined]
    parameter.ds_numel_aligned = aligned  # type: ignore[attr-defined]
    free_param(parameter)
    return partition
