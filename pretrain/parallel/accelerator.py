"""What the environment has to say before anything imports torch: which GPUs are seen, and how CUDA is to run.

Nothing here imports torch, for torch and CUDA read these variables once.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.metadata import version
from typing import Literal

from pretrain.config.parallel import ParallelConfig

_PINNED_EXACTLY = "pinned_max_round_threshold_mb"
_KNOWS_PINNED_EXACTLY = (2, 13)
_ALLOCATOR = "PYTORCH_ALLOC_CONF"


def prepare_environment(
    device: Literal["auto", "cpu"],
    parallel: ParallelConfig | None = None,
    environment: MutableMapping[str, str] | None = None,
) -> None:
    """Set what this process needs; what the user has set stays.

    Args:
        device: `cpu` hides all GPUs from this process, as DeepSpeed's own DS_ACCELERATOR=cpu does.
        parallel: the layout of a pretraining run; None: there is none.
        environment: what to change; None: this process'.
    """
    env = os.environ if environment is None else environment
    if device == "cpu" or env.get("DS_ACCELERATOR") == "cpu":
        # Whoever asks for `cuda` finds none: the choice of a device is made in one place.
        env["CUDA_VISIBLE_DEVICES"] = ""
    elif parallel is not None:
        if one_launch_queue(parallel):
            env.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        _pin_exactly(env)


def one_launch_queue(parallel: ParallelConfig) -> bool:
    """Whether kernels are to start in the order of their launches (CUDA_DEVICE_MAX_CONNECTIONS=1).

    megatron-core's tensor-parallel layers launch a collective before the matrix product that hides it, and count on
    that order (see its `linear_with_grad_accumulation_and_async_allreduce`). With ZeRO's own overlap the order would
    have its collectives, on a stream of their own, wait for the compute in front of them.
    """
    return parallel.tensor_size > 1 and not parallel.zero_overlap


def _pin_exactly(env: MutableMapping[str, str]) -> None:
    """Have torch pin what is asked for: it rounds up to a power of two, which is up to twice the memory.

    A checkpoint's copy and what is offloaded at ZeRO stages 1 and 2 are pinned, each several bytes for every weight.
    torch/c10/core/AllocatorConfig.h: allocations above the threshold (1 MiB) are not rounded. An older torch with CUDA
    would refuse the key.
    """
    if tuple(int(part) for part in version("torch").split(".")[:2]) < _KNOWS_PINNED_EXACTLY:
        return
    # The name of before torch 2.9 is still read where the new one is missing.
    before = env.get(_ALLOCATOR) or env.get("PYTORCH_CUDA_ALLOC_CONF", "")
    if _PINNED_EXACTLY not in before:
        env[_ALLOCATOR] = ",".join(filter(None, [before, f"{_PINNED_EXACTLY}:1"]))
