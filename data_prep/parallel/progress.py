"""How far a long work is: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

LINE_INTERVAL_S = 5.0
LOOK_INTERVAL_S = 1.0
MAX_WORKERS_SHOWN = 8
SILENT_S = 15.0


@dataclass(frozen=True)
class AtWork:
    """A worker in the middle of a part of the work.

    Attributes:
        worker: who, such as `host:process`.
        part: what it is at.
        bytes_per_s: its rate on that part.
        left_out: records of that part that it left out.
        silent_s: how long it has not been heard of.
    """

    worker: str
    part: str
    bytes_per_s: float
    left_out: int
    silent_s: float = 0.0

    def __str__(self) -> str:
        left_out = f", {self.left_out:,} left out" if self.left_out else ""
        silent = f", silent for {_duration(self.silent_s)}" if self.silent_s > SILENT_S else ""
        return f"{self.worker}: {self.part}, {self.bytes_per_s / 1e6:.1f} MB/s{left_out}{silent}"


@dataclass(frozen=True)
class Done:
    """What is done so far: bytes of input, tokens made, records left out; and who is at work, where that is known."""

    input_bytes: int = 0
    tokens: int = 0
    left_out: int = 0
    workers: tuple[AtWork, ...] = ()


class WorkProgress:
    """Shows how far a work is, in a thread of its own; use it in a `with` block.

    Args:
        label: what is being done.
        total_bytes: input bytes in all.
        look: finds out what is done by now; it is asked about once a second.
    """

    def __init__(self, label: str, total_bytes: int, look: Callable[[], Done]) -> None:
        self.label = label
        self.total_bytes = total_bytes
        self._look = look
        self._start_s = time.monotonic()
        self._at_start = Done()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> WorkProgress:
        self._at_start = self._look()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.label, total=self.total_bytes, state="")
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._start_s

    def _watch(self) -> None:
        printed_s = self._start_s
        while not self._stop.wait(LOOK_INTERVAL_S):
            if self._bar is not None:
                done = self._look()
                lines = [self._state(done), *worker_lines(done)]
                self._bar.update(self._task, completed=done.input_bytes, state="\n".join(lines))
            elif time.monotonic() - printed_s >= LINE_INTERVAL_S:
                printed_s = time.monotonic()
                done = self._look()
                lines = [f"{self.label}: {self._state(done)}", *(f"  {line}" for line in worker_lines(done))]
                print("\n".join(lines), file=sys.stderr, flush=True)

    def _state(self, done: Done) -> str:
        share = done.input_bytes / max(1, self.total_bytes)
        rate = (done.input_bytes - self._at_start.input_bytes) / max(1e-9, self.elapsed_s)
        parts = [
            f"{share:.0%} of {self.total_bytes / 1e6:,.1f} MB",
            f"{done.tokens / 1e6:,.1f}M tokens",
            f"{rate / 1e6:.1f} MB/s",
        ]
        if done.left_out:
            parts.append(f"{done.left_out:,} left out")
        if rate > 0:
            parts.append(f"about {_duration((self.total_bytes - done.input_bytes) / rate)} left")
        return ", ".join(parts)


def worker_lines(done: Done) -> list[str]:
    """A line for each worker, where there are several: the slowest first, which the others will wait for."""
    if len(done.workers) < 2:
        return []
    slowest = sorted(done.workers, key=lambda at_work: at_work.bytes_per_s)
    lines = [str(at_work) for at_work in slowest[:MAX_WORKERS_SHOWN]]
    more = slowest[MAX_WORKERS_SHOWN:]
    return [*lines, f"and {len(more)} faster ones, up to {more[-1].bytes_per_s / 1e6:.1f} MB/s"] if more else lines


def _duration(seconds: float) -> str:
    minutes, hours = divmod(max(0, round(seconds)), 60)[0], round(seconds) // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{max(0, seconds):.0f} s"
