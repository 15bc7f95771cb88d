"""Where the ranks meet before they train: a store that all of them reach, and a list of those that have come."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import torch.distributed as dist

from configs.errors import MachineError
from pretrain.parallel.launch import Launch

REPORT_AFTER_S = 60.0
"""How long ranks wait before they say for whom."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.01, 0.5
_meetings = itertools.count()


def meet(launch: Launch, timeout: timedelta, report_after_s: float = REPORT_AFTER_S) -> dist.Store:
    """The store of the ranks of `launch`, as soon as all of them have come.

    Says on standard error, each `report_after_s`, which ranks are missing.

    Raises:
        MachineError: not all have come within `timeout`; names who is missing.
        dist.DistError: rank 0's address is unknown, or its port is in use.
    """
    began_s = time.monotonic()
    store = _connect(launch, timeout, report_after_s)
    # Whoever meets again in the same store, such as a second run of the same processes, does so under another number.
    prefix = f"bessemer/meeting{next(_meetings)}"
    store.set(f"{prefix}/{launch.rank}", "")
    if store.add(f"{prefix}/count", 1) == launch.world_size:
        store.set(f"{prefix}/all", "")
    pause_s, next_report_s = MIN_PAUSE_S, report_after_s
    # Asked again and again: the store's own wait writes warnings of its own when its time is up.
    while not store.check([f"{prefix}/all"]):
        waited_s = time.monotonic() - began_s
        is_late = waited_s >= timeout.total_seconds()
        if is_late or (launch.rank == 0 and waited_s >= next_report_s):
            next_report_s += report_after_s
            missing = [rank for rank in range(launch.world_size) if not store.check([f"{prefix}/{rank}"])]
            told = f"{len(missing)} of {launch.world_size} ranks have not come: {in_words(missing)}"
            if is_late:
                raise MachineError(
                    f"rank {launch.rank} of {launch.world_size} waited {waited_s:.0f} s; {told}",
                    where=f"{launch.master_address}:{launch.master_port}",
                    expected="a process for each rank, which reaches this address (MASTER_ADDR, MASTER_PORT)",
                )
            say(f"after {waited_s:.0f} s at {launch.master_address}:{launch.master_port}, {told}")
        time.sleep(pause_s)
        pause_s = min(MAX_PAUSE_S, 1.5 * pause_s)
    return store


def _connect(launch: Launch, timeout: timedelta, report_after_s: float) -> dist.Store:
    """Rank 0 opens the store and the others connect to it; under torchrun its agent has it already."""
    assert launch.master_address is not None and launch.master_port is not None
    # torchrun's word for it, which torch's own rendezvous reads, too.
    serves = launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    where = f"{launch.master_address}:{launch.master_port}"
    text = f"rank {launch.rank} waits for rank 0, which does not answer at {where}"
    with _told_meanwhile(text, report_after_s) if may_speak(launch) and not serves else nullcontext():
        return dist.TCPStore(
            launch.master_address,
            launch.master_port,
            launch.world_size,
            is_master=serves,
            timeout=timeout,
            wait_for_workers=False,
            multi_tenant=serves,
        )


@contextmanager
def _told_meanwhile(text: str, every_s: float) -> Iterator[None]:
    """While the block runs, which may be in C: `text` and how long it has been, each `every_s`."""
    ended, began_s = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(every_s):
            say(f"{text} (for {time.monotonic() - began_s:.0f} s)")

    thread = threading.Thread(target=tell, name="meeting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def may_speak(launch: Launch) -> bool:
    """Whether this is one of the few ranks of its machine that speak for the others when rank 0 cannot."""
    return launch.local_rank <= 1


def say(text: str) -> None:
    """One line on standard error."""
    print(f"waiting: {text}", file=sys.stderr, flush=True)


def in_words(ranks: Iterable[int]) -> str:
    """Numbers of ranks with neighbours joined: `0, 3-5`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
