"""Run a function on several gloo ranks of this machine and get its results, or the first failure's traceback.

    losses = run_ranks(train_four_steps, 4, "zero-3", timeout_s=120)

Importing torch costs seconds, so it is paid once: a server process (`tests/fork_server.py`) imports it, and forks the
ranks of every call. The function and its arguments travel by pickle: the function must be at the top of its module.
"""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("fork_server.py")
TAIL_CHARACTERS = 6000


class RankFailure(Exception):
    """A rank raised, died or did not end in time.

    Attributes:
        rank: the first one that failed; None when the time ran out.
        error: what it raised, where that could be pickled; None when it was killed.
        errors: the same of all ranks that raised.
    """

    def __init__(self, message: str, rank: int | None, errors: dict[int, BaseException]) -> None:
        super().__init__(message)
        self.rank = rank
        self.errors = errors
        self.error = errors.get(rank) if rank is not None else None


@dataclass(frozen=True)
class Call:
    """What the server needs to know to run a function on ranks.

    Attributes:
        module: the function's module, imported by name in each rank.
        function: its name there.
        arguments: pickled positional and keyword arguments.
        world_size: how many ranks.
        directory: where each rank leaves its result and its output.
        timeout_s: after this, all ranks are killed.
        process_group: whether torch.distributed is initialised with gloo before the function is called.
        environment: variables on top of the caller's.
        preload: modules that the server imports before it forks, and keeps.
        import_path: the caller's `sys.path`.
    """

    module: str
    function: str
    arguments: bytes
    world_size: int
    directory: str
    timeout_s: float
    process_group: bool
    environment: dict[str, str]
    preload: tuple[str, ...]
    import_path: list[str] = field(default_factory=lambda: list(sys.path))


def run_ranks(
    function: Callable[..., Any],
    world_size: int,
    *arguments: Any,
    timeout_s: float = 120.0,
    process_group: bool = True,
    environment: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
    **keywords: Any,
) -> list[Any]:
    """Call `function(*arguments, **keywords)` on `world_size` ranks and return what each returned, by rank.

    RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and OMP_NUM_THREADS=1 are set. When a rank
    fails, the others get a few seconds to end by themselves, then are killed with everything that they started.

    Args:
        function: a function at the top of an importable module.
        world_size: how many ranks.
        arguments: picklable arguments.
        timeout_s: limit for the whole call, in seconds.
        process_group: whether to initialise torch.distributed with gloo; False leaves that to the function.
        environment: more variables for the ranks.
        preload: heavy modules to import once for all calls, such as `deepspeed`.
        keywords: picklable keyword arguments.

    Raises:
        RankFailure: a rank raised, was killed, or the time ran out; carries the traceback of the first failing rank.
    """
    with tempfile.TemporaryDirectory(prefix="ranks-") as directory:
        call = Call(
            module=function.__module__,
            function=function.__qualname__,
            arguments=pickle.dumps((arguments, keywords)),
            world_size=world_size,
            directory=directory,
            timeout_s=timeout_s,
            process_group=process_group,
            environment=dict(os.environ) | dict(environment or {}),
            preload=tuple(preload),
        )
        statuses = _server().run(call)
        return _results(Path(directory), statuses, call)


def _results(directory: Path, statuses: list[int | None], call: Call) -> list[Any]:
    outcomes = [_outcome(directory, rank) for rank in range(call.world_size)]
    for rank in range(call.world_size):
        if output := _output(directory, rank):
            print(f"--- output of rank {rank}\n{output}")
    if all(outcome is not None and outcome["ok"] for outcome in outcomes) and not any(statuses):
        return [outcome["value"] for outcome in outcomes if outcome]
    raised = {rank: o for rank, o in enumerate(outcomes) if o is not None and not o["ok"]}
    errors = {rank: o["error"] for rank, o in raised.items() if o["error"] is not None}
    died = {rank: status for rank, status in enumerate(statuses) if status and (status < 0 or outcomes[rank] is None)}
    if died:
        # What the others raised then is a consequence.
        first = next(iter(died))
        text = f"rank {first} of {call.world_size} ended with status {died[first]}"
    elif raised:
        first = min(raised, key=lambda rank: raised[rank]["time"])
        text = f"rank {first} of {call.world_size} raised\n{raised[first]['traceback']}"
    else:
        unfinished = [rank for rank, status in enumerate(statuses) if status is None]
        tails = "".join(_tail(directory, rank) for rank in unfinished)
        raise RankFailure(f"ranks {unfinished} did not end within {call.timeout_s} s{tails}", None, errors)
    raise RankFailure(text + _tail(directory, first), first, errors)


def _outcome(directory: Path, rank: int) -> dict[str, Any] | None:
    path = directory / f"rank{rank}.result"
    return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301 (our own child wrote it)


def _output(directory: Path, rank: int) -> str:
    path = directory / f"rank{rank}.log"
    return path.read_text(errors="replace").strip() if path.exists() else ""


def _tail(directory: Path, rank: int) -> str:
    output = _output(directory, rank)
    return f"\n--- output of rank {rank}\n{output[-TAIL_CHARACTERS:]}" if output else ""


class _Server:
    """The forking process; started at the first call, ended with the test run."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-u", str(SERVER), str(theirs.fileno())]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        self.connection = Connection(ours.detach())
        atexit.register(self.close)

    def run(self, call: Call) -> list[int | None]:
        try:
            self.connection.send(vars(call))
            answer = self.connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            # The ranks die with their server.
            self.close()
            raise
        if isinstance(answer, str):
            raise RankFailure(answer, None, {})
        return answer

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_running: _Server | None = None


def _server() -> _Server:
    global _running
    if _running is None or _running.process.poll() is not None or _running.connection.closed:
        _running = _Server()
    return _running
