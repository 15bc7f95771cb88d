"""How far a cleaning is: a line every few seconds, from the tasks' completion marks and heartbeats."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import orjson

INTERVAL_S = 5.0
LATER_INTERVAL_S = 30.0  # once a phase takes minutes


class Watch:
    """Prints to standard error while a `with` block runs; works for every executor, as it reads files only.

    Args:
        root: the directory of the unfinished output.
        phases: name, description and number of tasks of each phase.
    """

    def __init__(self, root: Path, phases: Sequence[tuple[str, str, int]]) -> None:
        self.root, self.phases = root, phases
        self.number = 0
        self._began_s = time.monotonic()
        self._done_before = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def begin(self, number: int) -> None:
        """Phase `number` begins."""
        self.number = number
        self._began_s = time.monotonic()
        self._done_before = self._completed()

    def line(self) -> str:
        """One line about the phase that runs."""
        _, what, tasks = self.phases[self.number]
        done, elapsed_s = self._completed(), time.monotonic() - self._began_s
        parts = [f"clean {self.number + 1}/{len(self.phases)} {what}: {done} of {tasks} tasks"]
        documents, size = self._beats()
        if documents:
            parts.append(f"{documents:,} documents, {size / 1e6:,.1f} MB read, {size / 1e6 / elapsed_s:.1f} MB/s")
        fresh = done - self._done_before
        if fresh and done < tasks:
            parts.append(f"about {elapsed_s / fresh * (tasks - done):.0f} s left in this phase")
        return ", ".join(parts)

    def _loop(self) -> None:
        while not self._stop.wait(INTERVAL_S if time.monotonic() - self._began_s < 60 else LATER_INTERVAL_S):
            print(self.line(), file=sys.stderr, flush=True)

    def _completed(self) -> int:
        return sum(1 for _ in (self.root / "logs" / self.phases[self.number][0] / "completions").glob("[0-9]*"))

    def _beats(self) -> tuple[int, int]:
        beats = [orjson.loads(p.read_bytes()) for p in (self.root / "progress" / str(self.number)).glob("[0-9]*.json")]
        return sum(beat[0] for beat in beats), sum(beat[1] for beat in beats)
