"""The process behind `tests/distributed.py`: imports torch once, forks the ranks of each call, watches over them.

It does nothing with torch but import it, so that no thread pool exists when it forks.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GRACE_S = 3.0
ALWAYS_NEEDED = ("torch", "torch.distributed", "numpy", "pytest")
PR_SET_PDEATHSIG = 1


def serve(connection: Connection) -> None:
    """Answer calls until the other end closes."""
    for module in ALWAYS_NEEDED:
        importlib.import_module(module)
    while True:
        try:
            call = connection.recv()
        except EOFError:
            return
        try:
            sys.path[:] = call["import_path"]
            for module in call["preload"]:
                importlib.import_module(module)
            connection.send(run(call, connection))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception:
            connection.send(f"the fork server failed\n{traceback.format_exc()}")


def run(call: dict[str, Any], connection: Connection) -> list[int | None]:
    """Fork the ranks and wait: each rank's exit status, negative for a signal, None where the time ran out."""
    port = free_port()
    children = {}
    for rank in range(call["world_size"]):
        child = os.fork()
        if child == 0:
            connection.close()
            run_rank(call, rank, port)
        children[child] = rank
    statuses: list[int | None] = [None] * call["world_size"]
    deadline = time.monotonic() + call["timeout_s"]
    try:
        while children and time.monotonic() < deadline:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child in children:
                code = os.waitstatus_to_exitcode(status)
                statuses[children.pop(child)] = code
                if code:
                    deadline = min(deadline, time.monotonic() + GRACE_S)
                continue
            # The caller has nothing to say during a call: something to read means that it is gone.
            if select.select([connection.fileno()], [], [], 0.01)[0]:
                return statuses
        return statuses
    finally:
        for child in children:
            kill_session(child)
            os.waitpid(child, 0)


def kill_session(child: int) -> None:
    """Kill a rank with everything that it started; ranks lead their own sessions."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        # Forked, but not yet the leader of its session.
        os.kill(child, signal.SIGKILL)


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_rank(call: dict[str, Any], rank: int, port: int) -> None:
    """In the child: be the rank, leave the result in a file, end the process without the server's clean-up."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    directory = Path(call["directory"])
    log = os.open(directory / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    size = str(call["world_size"])
    os.environ.clear()
    os.environ.update(call["environment"])
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    status = 1
    try:
        outcome = {"ok": True, "value": call_function(call, rank)}
        status = 0
    except BaseException as error:
        outcome = {"ok": False, "error": error, "traceback": traceback.format_exc(), "time": time.time()}
    write_outcome(directory / f"rank{rank}.result", outcome)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def call_function(call: dict[str, Any], rank: int) -> Any:
    """Import the function, initialise gloo, call it."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    function: Any = importlib.import_module(call["module"])
    for name in call["function"].split("."):
        function = getattr(function, name)
    arguments, keywords = pickle.loads(call["arguments"])  # noqa: S301 (the test itself wrote it)
    if call["process_group"]:
        dist.init_process_group("gloo", rank=rank, world_size=call["world_size"])
    value = function(*arguments, **keywords)
    if call["process_group"] and dist.is_initialized():
        # Nobody closes its sockets while another still waits for it.
        dist.barrier()
        dist.destroy_process_group()
    return value


def write_outcome(path: Path, outcome: dict[str, Any]) -> None:
    """Pickle the outcome; an exception that cannot cross is left out, its traceback stays."""
    try:
        data = pickle.dumps(outcome)
        if not outcome["ok"]:
            pickle.loads(data)  # noqa: S301 (just made here)
    except Exception as error:
        text = outcome.get("traceback") or f"the result cannot be pickled: {error!r}"
        data = pickle.dumps({"ok": False, "error": None, "traceback": text, "time": time.time()})
    temporary = path.with_suffix(".writing")
    temporary.write_bytes(data)
    temporary.replace(path)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
