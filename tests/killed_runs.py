"""Starts a run's ranks, and kills them at random moments, for the commands that show that killed runs go on bitwise.

Heavy modules are imported by the command itself, before it calls these: the ranks are forked.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

RANKS = 2


def start(run: Callable[[], int], log: Path) -> int:
    """Start the ranks of `run`, which returns an exit status, in a process group of their own.

    Returns:
        the leader's process id.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    leader = os.fork()
    if leader:
        return leader
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    ranks = []
    for rank in range(RANKS):
        child = os.fork()
        if not child:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(RANKS))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            os._exit(_run(run))
        ranks.append(child)
    os._exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks))


def _run(run: Callable[[], int]) -> int:
    import traceback

    try:
        return run()
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def ended(leader: int) -> int | None:
    """The run's exit status; None while it runs."""
    child, status = os.waitpid(leader, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if child else None


def finish(run: Callable[[], int], log: Path) -> float:
    """Run undisturbed; returns the seconds that it took."""
    started_s = time.monotonic()
    leader = start(run, log)
    while (status := ended(leader)) is None:
        time.sleep(0.02)
    if status != 0:
        raise SystemExit(log.read_text()[-4000:])
    return time.monotonic() - started_s


def newest(checkpoints: Path) -> int:
    """Step of the newest complete checkpoint; 0: none."""
    return max((int(path.name.removeprefix("step_")) for path in checkpoints.glob("step_*[0-9]")), default=0)


def attempt(
    run: Callable[[], int],
    checkpoints: Path,
    log: Path,
    chance: random.Random,
    *,
    in_save: bool,
    longest_s: float,
    furthest_steps: float,
) -> str:
    """Run until a random moment, or through; says what happened.

    Args:
        run: one rank's part; returns its exit status.
        checkpoints: where it saves.
        log: takes what the ranks print.
        chance: decides the moment.
        in_save: whether it has to come while a checkpoint is being written.
        longest_s: the moment is at most so late, unless it has to be in a save; 1e9: no kill before the end.
        furthest_steps: a kill comes in any case after so many steps were saved.
    """
    leader, started_s = start(run, log), time.monotonic()
    deadline_s = started_s + (chance.uniform(0.2, longest_s) if longest_s < 1e9 else longest_s)
    old, complete = set(checkpoints.glob(".tmp-*")), newest(checkpoints)
    while (status := ended(leader)) is None:
        saving = set(checkpoints.glob(".tmp-*")) - old
        # Two saves are enough for one attempt: there must be something left for the other kills.
        is_time = time.monotonic() > deadline_s or newest(checkpoints) >= complete + furthest_steps
        # One in a save comes after one that was whole, so that the next attempt has something to go on from.
        if is_time and (not in_save or (saving and newest(checkpoints) > complete)):
            os.killpg(leader, signal.SIGKILL)
            os.waitpid(leader, 0)
            half_written = len(set(checkpoints.glob(".tmp-*")) - old)
            return f"killed after {time.monotonic() - started_s:.2f} s{', during a save' if half_written else ''}"
        time.sleep(0 if in_save else 0.005)
    if status != 0:
        raise SystemExit(f"the run ended with status {status}:\n{log.read_text()[-4000:]}")
    return "finished"


def kill_until_through(
    run: Callable[[], int], checkpoints: Path, log: Path, *, kills: int, seed: int, whole_s: float
) -> tuple[int, int]:
    """Kill a run again and again, every second time during a save, then let it end; prints what each kill found.

    Args:
        run: one rank's part; returns its exit status.
        checkpoints: where it saves.
        log: takes what the ranks print.
        kills: how often.
        seed: decides the moments.
        whole_s: what an undisturbed run took.

    Returns:
        how often it was killed, and how often of these during a save.
    """
    chance, count, during_save = random.Random(seed), 0, 0
    while True:
        # Late enough to make progress now and then, early enough to need all the kills.
        longest_s, furthest = (0.15 * whole_s, 6.0) if count < kills else (1e9, 1e9)
        in_save = count % 2 == 1 and count < kills
        happened = attempt(run, checkpoints, log, chance, in_save=in_save, longest_s=longest_s, furthest_steps=furthest)
        steps = sorted(p.name for p in checkpoints.glob("step_*"))
        print(f"attempt {count + 1}: {happened}; newest complete: {steps[-1] if steps else 'none'}", flush=True)
        if happened == "finished":
            return count, during_save
        count += 1
        during_save += "during a save" in happened
