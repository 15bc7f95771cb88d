"""Which device a process takes, what it tells DeepSpeed of it, and that no two take the same GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from configs.errors import MachineError
from pretrain.engine import processes, task_engine, topology
from pretrain.engine.processes import choose_device, claim_gpu, join_ranks, launcher_variables
from pretrain.parallel.launch import Launch, discover
from pretrain.parallel.layout import Layout

SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "7",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "n1,n2",
}
"""The second task of the second node."""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with `count` GPUs; `chosen` are those that were made the current one."""
    machine = SimpleNamespace(count=2, chosen=[])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: machine.count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: machine.count)
    monkeypatch.setattr(torch.cuda, "set_device", machine.chosen.append)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return machine


def launch(local_rank: int, launcher: str = "torchrun") -> Launch:
    return Launch(2 + local_rank, 4, local_rank, 2, "n1", 1234, launcher)


def test_each_process_takes_the_gpu_of_its_number(gpus: SimpleNamespace) -> None:
    devices = [choose_device(launch(local_rank)) for local_rank in (0, 1)]
    assert devices == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert gpus.chosen == [0, 1]


@pytest.mark.parametrize(("launcher", "visible"), [("srun", None), ("srun", "0"), ("mpirun", "1"), ("deepspeed", "3")])
def test_a_process_that_sees_one_gpu_takes_it(
    gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, launcher: str, visible: str | None
) -> None:
    gpus.count = 1
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_device(launch(1, launcher)) == torch.device("cuda", 0)
    assert gpus.chosen == [0]


def test_more_processes_than_gpus_are_refused(gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.count = 1
    for visible in ("", "0,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(MachineError, match="local rank 1 has no GPU of its own: this machine shows 1"):
            choose_device(launch(1))


def test_deepspeed_is_told_the_number_of_the_gpu() -> None:
    # deepspeed/runtime/engine.py sets the device of number LOCAL_RANK.
    assert launcher_variables(launch(1), torch.device("cuda", 0))["LOCAL_RANK"] == "0"
    assert launcher_variables(launch(1), torch.device("cuda", 1))["LOCAL_RANK"] == "1"
    assert launcher_variables(launch(1), torch.device("cpu"))["LOCAL_RANK"] == "1"


def test_both_numbers_of_mpi_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")
    words = launcher_variables(launch(1, "mpirun"), torch.device("cuda", 0))
    assert words["OMPI_COMM_WORLD_LOCAL_RANK"] == words["LOCAL_RANK"] == "0"


class Joined(Exception):
    """What the ranks would have met with."""


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_srun_with_a_gpu_per_task(command: str, gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.count = 1
    # A start sets variables for good; here, in a copy.
    monkeypatch.setattr(os, "environ", {**os.environ, **SRUN})
    seen: list[Any] = []

    def join(launch: Launch, device: torch.device, *options: Any, **named: Any) -> None:
        seen.append((launch.rank, device, os.environ["LOCAL_RANK"], os.environ["RANK"]))
        raise Joined

    for module in (topology, task_engine):
        monkeypatch.setattr(module, "join_ranks", join)
    with pytest.raises(Joined):
        if command == "pretrain":
            topology.start(discover(), Layout(data=4))
        else:
            with task_engine.task_processes():
                pass
    assert seen == [(3, torch.device("cuda", 0), "0", "3")]


def test_two_ranks_with_the_same_gpu_are_told() -> None:
    store = dist.HashStore()
    claim_gpu(store, "GPU-1 of n1", 0)
    claim_gpu(store, "GPU-2 of n1", 1)
    claim_gpu(store, "GPU-1 of n2", 2)
    with pytest.raises(MachineError, match="ranks 0 and 3 were given the same GPU, GPU-1 of n1"):
        claim_gpu(store, "GPU-1 of n1", 3)


@pytest.mark.parametrize("address", [None, "127.0.0.1"])
def test_a_rank_on_a_gpu_joins_without_splitting_the_world(
    address: str | None, gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, **options: calls.append({"backend": backend, **options})
    )
    store = dist.HashStore()
    monkeypatch.setattr(processes, "meet", lambda launch, timeout, report_after_s: store)
    monkeypatch.setattr(processes, "WaitReport", lambda *arguments, **options: None)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-1"))
    started = Launch(0, 1, 0, 1, address, 1234 if address else None, "python")
    join_ranks(started, torch.device("cuda", 0))
    assert [(call["backend"], "device_id" in call) for call in calls] == [("nccl", False)]
    if address:
        with pytest.raises(MachineError, match="the same GPU"):
            processes.join_ranks(Launch(1, 2, 0, 1, address, 1234, "srun"), torch.device("cuda", 0))
