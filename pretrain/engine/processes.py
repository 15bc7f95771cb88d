"""Joins the ranks of a run, on whatever device each has; the one place that starts torch.distributed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from configs.errors import MachineError
from pretrain.engine.meeting import REPORT_AFTER_S, meet
from pretrain.engine.waiting import WaitReport
from pretrain.parallel.launch import Launch

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
_wait_report: WaitReport | None = None


def choose_device(launch: Launch) -> torch.device:
    """The device of this process: its own GPU where the machine shows any, else the CPU.

    Raises:
        MachineError: if there are fewer GPUs than processes on this machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count, number = torch.cuda.device_count(), launch.local_rank
    if count == 1 and (launch.launcher == "srun" or _shows_one_gpu()):
        # srun --gpus-per-task, and wrappers that set CUDA_VISIBLE_DEVICES, show each process its own GPU only.
        number = 0
    if number >= count:
        raise MachineError(
            f"local rank {number} has no GPU of its own: this machine shows {count}",
            where="launcher",
            expected=f"at most {count} processes on this machine, or training.device=cpu",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _shows_one_gpu() -> bool:
    """Whether this process was given one GPU by name; `claim_gpu` tells where others were given the same."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return bool(names) and "," not in names


def claim_gpu(store: dist.Store, gpu: str, rank: int) -> None:
    """Take a GPU for this rank, once the ranks have met.

    Args:
        store: which all ranks share.
        gpu: names one GPU among those of all machines.
        rank: of this process.

    Raises:
        MachineError: another rank has it.
    """
    owner = int(store.compare_set(f"bessemer/gpu/{gpu}", "", str(rank)))
    if owner != rank:
        raise MachineError(
            f"ranks {min(owner, rank)} and {max(owner, rank)} were given the same GPU, {gpu}",
            where="launcher",
            expected="a GPU for each process, such as srun --gpus-per-task=1, or fewer processes",
        )


def join_ranks(
    launch: Launch,
    device: torch.device,
    timeout: timedelta = COLLECTIVE_TIMEOUT,
    report_after_s: float = REPORT_AFTER_S,
) -> None:
    """Start torch.distributed among the ranks of `launch`; a process alone needs no port.

    Until `leave_ranks`, a rank that waits for others says on standard error who is missing.

    Args:
        launch: this process among the ranks.
        device: where its tensors live.
        timeout: how long ranks wait for each other, here and in each collective.
        report_after_s: how long before they say for whom.

    Raises:
        MachineError: if the ranks cannot meet (port in use, address unknown, peers missing).
    """
    # No device_id: with one, NCCL connects all ranks at once and every group that megatron-core makes, also those that
    # this rank is not in or never uses, is a split of that communicator in which all ranks take part
    # (torch/distributed/distributed_c10d.py, _new_process_group_helper). Without, a group connects at its first use.
    global _wait_report
    backend = "nccl" if device.type == "cuda" else "gloo"
    if launch.master_address is None:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        return
    try:
        store = meet(launch, timeout, report_after_s)
        on_device = device.type == "cuda"
        _wait_report = WaitReport(store, launch, on_device=on_device, report_after_s=report_after_s)
        dist.init_process_group(
            backend,
            store=store,
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=timeout,
        )
    except (dist.DistError, RuntimeError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise MachineError(
            f"rank {launch.rank} of {launch.world_size} could not meet the others: {reason}",
            where=f"{launch.master_address}:{launch.master_port}",
            expected="an address that every rank reaches and a port that is free (MASTER_ADDR, MASTER_PORT)",
        ) from None
    if device.type == "cuda":
        gpu = f"{torch.cuda.get_device_properties(device).uuid} of {socket.gethostname()}"
        claim_gpu(dist.distributed_c10d._get_default_store(), gpu, launch.rank)


def cores_of_this_rank() -> int:
    """Processor cores of this process, where the ranks of its machine share those that it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def mark_progress() -> None:
    """Say that this rank goes on: what it waits for from now on is another exchange than before."""
    if _wait_report is not None:
        _wait_report.mark()


def leave_ranks() -> None:
    """Destroy the process groups of torch.distributed, and DeepSpeed's own record of them."""
    global _wait_report
    if _wait_report is not None:
        _wait_report.stop()
        _wait_report = None
    if not dist.is_initialized():
        return
    communication = sys.modules.get("deepspeed.comm")
    if communication is not None and communication.is_initialized():
        communication.destroy_process_group()  # forgets DeepSpeed's clones of the group, too
    else:
        dist.destroy_process_group()


def launcher_variables(launch: Launch, device: torch.device) -> dict[str, str]:
    """The launch as torchrun's environment variables, which DeepSpeed and other libraries read.

    LOCAL_RANK is the number of `device` among the GPUs that this process sees, for DeepSpeed takes it for that; where
    each process sees its own GPU only, it is 0 and not the process' number on its machine.
    """
    local_rank = launch.local_rank if device.index is None else device.index
    words = {
        "RANK": str(launch.rank),
        "WORLD_SIZE": str(launch.world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(launch.local_world_size),
    }
    if launch.master_address is not None:
        words |= {"MASTER_ADDR": launch.master_address, "MASTER_PORT": str(launch.master_port)}
    if "OMPI_COMM_WORLD_LOCAL_RANK" in os.environ:
        # DeepSpeed refuses a start where the two differ.
        words["OMPI_COMM_WORLD_LOCAL_RANK"] = words["LOCAL_RANK"]
    return words


@contextmanager
def variables_set(words: dict[str, str]) -> Iterator[None]:
    """Environment variables for as long as the block runs."""
    before = {key: os.environ.get(key) for key in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
