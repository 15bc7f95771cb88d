"""How far a long work is: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

LINE_INTERVAL_S = 5.0


class Progress:
    """Counts bytes and tokens done; use it in a `with` block.

    Args:
        label: what is being done.
        total_bytes: input bytes in all.
    """

    def __init__(self, label: str, total_bytes: int) -> None:
        self.label = label
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self.tokens = 0
        self._start_s = time.monotonic()
        self._printed_s = self._start_s
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.label, total=self.total_bytes, state="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._start_s

    def advance(self, size_bytes: int, tokens: int) -> None:
        """Count another `size_bytes` of input and the tokens made of it."""
        self.done_bytes += size_bytes
        self.tokens += tokens
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done_bytes, state=self._state())
        elif time.monotonic() - self._printed_s >= LINE_INTERVAL_S:
            self._printed_s = time.monotonic()
            left_s = self.elapsed_s * (self.total_bytes / max(1, self.done_bytes) - 1)
            print(f"{self.label}: {self._state()}, about {left_s:.0f} s left", file=sys.stderr, flush=True)

    def _state(self) -> str:
        rate = self.done_bytes / 1e6 / max(1e-9, self.elapsed_s)
        done = f"{self.done_bytes / 1e6:,.1f} of {self.total_bytes / 1e6:,.1f} MB"
        return f"{done}, {self.tokens / 1e6:,.1f}M tokens, {rate:.1f} MB/s"
