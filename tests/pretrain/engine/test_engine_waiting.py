"""Ranks that wait say for whom, and a signal reaches a rank that waits in C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest
import torch.distributed as dist

from configs.errors import MachineError
from pretrain.engine import meeting, waiting
from pretrain.engine.meeting import in_words, meet
from pretrain.engine.waiting import Stand, WaitReport, describe
from pretrain.parallel.launch import Launch, free_port

ROOT = Path(__file__).parents[3]
RANK = """if True:
    import sys
    import torch, torch.distributed as dist
    from pretrain.engine.processes import join_ranks, leave_ranks
    from pretrain.parallel.launch import discover
    from pretrain.stopping import StopRequest

    with StopRequest(has_begun=False, same_keystroke_s=-1) as stop:
        launch = discover()
        print("starts", flush=True)
        join_ranks(launch, torch.device("cpu"), report_after_s=0.4)
        stop.begin()
        print("met", flush=True)
        if launch.rank == 1:
            sys.stdin.readline()
        dist.barrier()
        print("passed", flush=True)
        leave_ranks()
"""


def launch(rank: int, world_size: int, port: int = 1) -> Launch:
    return Launch(rank, world_size, rank, world_size, "127.0.0.1", port, "test")


def stand(waits: bool, place: str, beat: int = 1) -> Stand:
    return Stand(beat, waits, True, place)


def test_neighbours_are_joined() -> None:
    assert in_words([5, 0, 3, 4, 9, 10]) == "0, 3-5, 9-10"


@pytest.mark.parametrize(
    ("stands", "says"),
    [
        (
            {0: stand(True, "a:1"), 1: stand(False, "loader.py:7"), 2: None, 3: None, 4: stand(True, "a:1")},
            "ranks that have not come: 1 (at loader.py:7); 2-3 (no sign of life for 45 s)",
        ),
        ({0: stand(True, "a:1"), 1: stand(True, "a:1")}, "all ranks have come, the exchange itself takes long"),
        (
            {0: stand(True, "a:1"), 1: stand(True, "b:2"), 2: stand(True, "b:2")},
            "all ranks wait, in different exchanges: 0 (at a:1); 1-2 (at b:2)",
        ),
    ],
)
def test_it_is_told_for_whom_the_ranks_wait(stands: dict[int, Stand | None], says: str) -> None:
    assert describe(stands, 45) == says


def exchange(until: threading.Event) -> None:
    """Stay in a function of torch.distributed, as the stack shows it, until something has been told."""
    names: dict[str, Callable[[threading.Event], bool]] = {}
    code = "def all_reduce(until):\n    return until.wait(60)\n"
    exec(compile(code, "/somewhere/site-packages/torch/distributed/collectives.py", "exec"), names)
    assert names["all_reduce"](until)


@contextmanager
def told(
    monkeypatch: pytest.MonkeyPatch, rank: int, beats: dict[int, Stand], *, on_device: bool = False
) -> Iterator[tuple[list[str], threading.Event]]:
    """What rank `rank` of 4 says while the others, as far as they are in `beats`, write where they are."""
    lines: list[str] = []
    came, over = threading.Event(), threading.Event()
    monkeypatch.setattr(waiting, "say", lambda text: (lines.append(text), came.set()))
    store = dist.HashStore()

    def write() -> None:
        beat = 0
        while not over.wait(0.01):
            beat += 1
            for other, where in beats.items():
                store.set(f"bessemer/stands/{other}", json.dumps([beat, where.waits, where.speaks, where.place]))

    writer = threading.Thread(target=write)
    writer.start()
    report = WaitReport(store, launch(rank, 4), on_device=on_device, report_after_s=0.4)
    try:
        yield lines, came
    finally:
        report.stop()
        over.set()
        writer.join()


def test_a_rank_in_a_collective_names_those_that_have_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {1: stand(True, "gradients.py:3"), 2: stand(False, "loader.py:7")}
    with told(monkeypatch, 0, others) as (lines, came):
        exchange(came)
    assert lines[0].startswith("rank 0 has waited")
    assert "ranks that have not come: 2 (at loader.py:7); 3 (no sign of life" in lines[0]


@pytest.mark.parametrize(
    ("rank", "others", "on_device"),
    [
        (1, {0: stand(True, "gradients.py:3"), 2: stand(False, "loader.py:7")}, False),
        # A long step on a device looks like this.
        (0, dict.fromkeys((1, 2, 3), stand(True, "gradients.py:3")), True),
    ],
    ids=["one rank speaks for all", "all ranks are in the engine"],
)
def test_nothing_is_said(monkeypatch: pytest.MonkeyPatch, rank: int, others: dict[int, Stand], on_device: bool) -> None:
    with told(monkeypatch, rank, others, on_device=on_device) as (lines, _):
        looked = threading.Event()
        original = WaitReport._told

        def look(self: WaitReport, now_s: float) -> str | None:
            said = original(self, now_s)
            if set(others) <= set(self._seen):
                looked.set()
            return said

        monkeypatch.setattr(WaitReport, "_told", look)
        exchange(looked)
    assert lines == []


def test_ranks_that_do_not_meet_in_time_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(meeting, "say", said.append)
    with pytest.raises(MachineError, match=r"rank 0 of 4 waited .*; 3 of 4 ranks have not come: 1-3"):
        meet(launch(0, 4, free_port()), timedelta(seconds=0.5), 0.1)
    assert said and all("3 of 4 ranks have not come: 1-3" in line for line in said)


def start(rank: int, port: int) -> subprocess.Popen[str]:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environ = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", RANK], cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def read_until(stream: IO[str] | None, part: str) -> str:
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if part in line:
            return line
    raise AssertionError("".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "number", "says"),
    [
        (0, signal.SIGINT, "1 of 2 ranks have not come: 1\n"),
        (1, signal.SIGTERM, "waits for rank 0, which does not answer at"),
    ],
)
def test_before_the_ranks_have_met_a_signal_ends_at_once(rank: int, number: signal.Signals, says: str) -> None:
    process = start(rank, free_port())
    read_until(process.stderr, says)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (75, "starts\n")


@pytest.mark.slow
def test_in_a_collective_a_signal_is_heard_and_a_second_interrupt_ends() -> None:
    port = free_port()
    waits, late = start(0, port), start(1, port)
    read_until(late.stdout, "met")
    assert "1 (at <string>:15)" in read_until(waits.stderr, "ranks that have not come: ")
    waits.send_signal(signal.SIGINT)
    read_until(waits.stderr, "SIGINT: finishing the step and saving")
    waits.send_signal(signal.SIGINT)
    out, err = waits.communicate(timeout=60)
    assert (waits.returncode, out) == (130, "starts\nmet\n") and "nothing is saved" in err
    late.kill()
    late.communicate()


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_missed_and_goes_on() -> None:
    port = free_port()
    first, second = start(0, port), start(1, port)
    read_until(second.stdout, "met")
    second.send_signal(signal.SIGSTOP)
    assert "1 (no sign of life" in read_until(first.stderr, "no sign of life")
    second.send_signal(signal.SIGCONT)
    ended = [second.communicate("\n", timeout=60)[0], first.communicate(timeout=60)[0]]
    assert [first.returncode, second.returncode] == [0, 0] and ended == ["passed\n", "starts\nmet\npassed\n"]
