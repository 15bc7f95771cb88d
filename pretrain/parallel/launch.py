"""Rank of this process, number of processes and where they meet, read from whatever launched it.

`torchrun`, the `deepspeed` launcher and `cluster/job.sh` set RANK and its kin; `srun` and `mpirun` have variables of
their own; a plain `python` is one process. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from configs.errors import ConfigError, MachineError, UserError, report


@dataclass(frozen=True)
class Launch:
    """Where this process stands in the run.

    Attributes:
        rank: number of this process, from 0.
        world_size: processes in all.
        local_rank: number of this process on its machine.
        local_world_size: processes on this machine.
        master_address: where rank 0 listens; None for a single process.
        master_port: and on which port.
        launcher: what started it, for the log.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    master_address: str | None
    master_port: int | None
    launcher: str


def discover(environment: dict[str, str] | None = None) -> Launch:
    """Find out how this process was started.

    Raises:
        ConfigError: if the launcher's variables are incomplete or contradict each other.
    """
    env = dict(os.environ) if environment is None else environment
    if "RANK" in env and "WORLD_SIZE" in env:
        return _from_torch(env)
    if "OMPI_COMM_WORLD_RANK" in env:
        return _from_mpi(env, _integer(env, "OMPI_COMM_WORLD_SIZE", "1"))
    # Before PMI: srun may speak it too, to an MPI that is not the one installed here.
    if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env and _integer(env, "SLURM_NTASKS", "1") > 1:
        return _from_slurm(env)
    if "PMI_RANK" in env:
        return _from_mpi(env, _integer(env, "PMI_SIZE", "1"))
    return Launch(0, 1, 0, 1, None, None, "python")


def _integer(env: dict[str, str], key: str, default: str | None = None) -> int:
    text = env.get(key, default)
    if text is None:
        raise ConfigError(f"the launcher set no {key}", where="environment", expected="RANK, WORLD_SIZE, LOCAL_RANK")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{key} is {text!r}", where="environment", expected="a whole number") from None


def _from_torch(env: dict[str, str]) -> Launch:
    rank, world = _integer(env, "RANK"), _integer(env, "WORLD_SIZE")
    if not 0 <= rank < world:
        raise ConfigError(
            f"RANK is {rank} of WORLD_SIZE {world}", where="environment", expected="0 <= RANK < WORLD_SIZE"
        )
    launcher = "torchrun" if "TORCHELASTIC_RUN_ID" in env else env.get("BESSEMER_LAUNCHER", "deepspeed")
    # Nobody says how many ranks this machine has: at least those up to this one.
    local_world = _integer(env, "LOCAL_WORLD_SIZE", env.get("LOCAL_SIZE", str(_integer(env, "LOCAL_RANK", "0") + 1)))
    return Launch(
        rank,
        world,
        _integer(env, "LOCAL_RANK", "0"),
        local_world,
        env.get("MASTER_ADDR", "127.0.0.1"),
        _integer(env, "MASTER_PORT", "29500"),
        launcher,
    )


def _from_slurm(env: dict[str, str]) -> Launch:
    return Launch(
        _integer(env, "SLURM_PROCID"),
        _integer(env, "SLURM_NTASKS"),
        _integer(env, "SLURM_LOCALID", "0"),
        _tasks_per_node(env.get("SLURM_TASKS_PER_NODE", "1")),
        env.get("MASTER_ADDR") or _first_slurm_host(env),
        _integer(env, "MASTER_PORT", str(20000 + _integer(env, "SLURM_JOB_ID", "0") % 20000)),
        "srun",
    )


def _tasks_per_node(text: str) -> int:
    """Tasks on the first node, of Slurm's `2(x3),1`."""
    digits = re.match(r"\d+", text)
    return int(digits.group()) if digits else 1


def _first_slurm_host(env: dict[str, str]) -> str:
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    if "[" not in nodes and nodes:
        return nodes.split(",")[0]
    try:
        answer = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(
            f"cannot expand the node list {nodes!r} ({error})", where="srun", expected="scontrol, or MASTER_ADDR set"
        ) from None
    return answer.stdout.split()[0]


def _from_mpi(env: dict[str, str], started: int) -> Launch:
    """Ranks from mpi4py; rank 0's address and a port that is free there are broadcast over MPI."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MachineError(
            f"mpi4py cannot start ({error})", where="mpirun", expected="an mpi4py that fits this mpirun"
        ) from None
    world = MPI.COMM_WORLD
    if world.Get_size() != started:
        raise MachineError(
            f"mpirun started {started} processes, but mpi4py's MPI sees {world.Get_size()}",
            where="mpirun",
            expected="the mpirun that came with this environment's MPI, or torchrun",
        )
    local = world.Split_type(MPI.COMM_TYPE_SHARED)
    offer = None
    if world.Get_rank() == 0:
        address = "127.0.0.1" if local.Get_size() == world.Get_size() else socket.gethostname()
        offer = (env.get("MASTER_ADDR", address), _integer(env, "MASTER_PORT", "0") or free_port())
    address, port = world.bcast(offer, root=0)
    return Launch(world.Get_rank(), world.Get_size(), local.Get_rank(), local.Get_size(), address, int(port), "mpirun")


def free_port() -> int:
    """A TCP port that is free on this machine now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def end_process(status: int) -> NoReturn:
    """End the process with `status`: at once where it is, or was, connected to others.

    gloo's threads can abort an interpreter that shuts down while a peer is gone, and the status would be lost.
    """
    distributed = sys.modules.get("torch.distributed")
    is_one_of_many = os.environ.get("WORLD_SIZE", "1") != "1"
    if distributed is not None and distributed.is_available() and (is_one_of_many or distributed.is_initialized()):
        sys.stdout.flush()
        sys.stderr.flush()
        if status == 0:
            _finalize_mpi()
        os._exit(status)
    raise SystemExit(status)


def _finalize_mpi() -> None:
    """Take leave of mpirun, which takes a rank that ends without for a failed one. Collective over its ranks."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()


def process_rank() -> str:
    """Rank of this process by its environment variables, before torch.distributed has started."""
    keys = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    return next((os.environ[key] for key in keys if key in os.environ), "0")


def is_main_process() -> bool:
    """Whether this process is rank 0, which prints."""
    return process_rank() == "0"


@contextmanager
def told_once() -> Iterator[None]:
    """Context of an entry point: a `UserError` ends the process with its status, printed once, by the main process.

    A process that ends by itself keeps its status, too.
    """
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        end_process(int(ended.code or 0))
    except UserError as error:
        if not is_main_process():
            # The main process most often has the same to say; this one speaks only if that stays silent.
            time.sleep(2)
            error.problem = f"rank {process_rank()}: {error.problem}"
        report(error)
        end_process(int(error.status))
