"""Patches of DeepSpeed, each with the upstream line that it works around.

`tests/pretrain/engine/test_engine_upstream.py` has a test for each, named after it, that fails when the patch is no
longer needed or no longer fits.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

_stage_group: dist.ProcessGroup | None = None
_agreed: set[tuple[int, ...]] = set()
"""What was compared already. Under a pipeline upstream compares at every micro-batch, as forward and backward passes
alternate and its trace is never complete."""


def import_deepspeed() -> Any:
    """The module `deepspeed`, with all patches of this file applied and its log level at ERROR.

    Its accelerator is CUDA where a GPU is visible, else the CPU.
    """
    # The device that `choose_device` takes, whatever DeepSpeed would find.
    os.environ["DS_ACCELERATOR"] = "cuda" if torch.cuda.is_available() else "cpu"
    warnings.filterwarnings("ignore", module="deepspeed|megatron")
    # deepspeed/comm/torch.py:246 (get_all_gather_function)
    # deepspeed/comm/torch.py:255 (get_reduce_scatter_function)
    # give collectives by names that newer torch releases deprecate, with a warning at every call.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\..*` is deprecated", category=FutureWarning)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    _skip_shared_memory_build(deepspeed)
    _scope_trace_check()
    _accumulate_bf16_in_zero_optimizer()
    return deepspeed


def scope_trace_check_to(group: dist.ProcessGroup) -> None:
    """Set the ranks that hold the same pipeline stage, and so must agree on ZeRO-3's trace of modules."""
    global _stage_group
    _stage_group = group
    _agreed.clear()


def _skip_shared_memory_build(deepspeed: Any) -> None:
    # deepspeed/comm/torch.py:49 (build_shm_op): compiles ShareMemCommBuilder at first use, which needs a C++ compiler
    # and waits for ever on the lock of a rank that was killed while it built. gloo gives the same results.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _scope_trace_check() -> None:
    # deepspeed/runtime/zero/partitioned_param_coordinator.py:260 (reset_step): assert_ints_same_as_other_ranks
    # compares with rank 0 of the world, but another pipeline stage has other modules.
    from deepspeed.runtime.zero import partitioned_param_coordinator

    partitioned_param_coordinator.assert_ints_same_as_other_ranks = assert_same_within_stage


def assert_same_within_stage(ints: Sequence[int]) -> None:
    """DeepSpeed's trace check among the ranks that hold the same stage, once for each trace.

    Raises:
        RuntimeError: if this rank's trace differs from theirs.
    """
    if _stage_group is None or tuple(ints) in _agreed:
        return
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    mine = torch.tensor([len(ints), *ints], dtype=torch.int64, device=device)
    length = torch.tensor([mine.numel()], device=device)
    dist.all_reduce(length, op=dist.ReduceOp.MIN, group=_stage_group)
    low, high = mine[: int(length)].clone(), mine[: int(length)].clone()
    dist.all_reduce(low, op=dist.ReduceOp.MIN, group=_stage_group)
    dist.all_reduce(high, op=dist.ReduceOp.MAX, group=_stage_group)
    if not torch.equal(low, high):
        raise RuntimeError("ranks that hold the same pipeline stage disagree on the order of its parameters")
    _agreed.add(tuple(ints))


def _accumulate_bf16_in_zero_optimizer() -> None:
    # deepspeed/runtime/engine.py:2305 (_do_optimizer_sanity_check): sends bf16 with fp32 accumulation at stage 1 to
    # BF16_Optimizer, which has another layout than the ZeRO optimizer of every other case.
    from deepspeed.runtime import engine

    original = engine.DeepSpeedEngine._do_optimizer_sanity_check
    if getattr(original, "bessemer", False):
        return

    def sanity_check(self: Any, basic_optimizer: Any) -> Any:
        chosen = original(self, basic_optimizer)
        return engine.ZERO_OPTIMIZATION if chosen == engine.BFLOAT16 else chosen

    sanity_check.bessemer = True  # type: ignore[attr-defined]
    engine.DeepSpeedEngine._do_optimizer_sanity_check = sanity_check
