"""A thread that prints the stack of every thread of this rank when no step finishes; the run goes on."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from typing import TextIO

# Python cannot answer while a C library holds the interpreter lock. faulthandler's own timer can; it fires when
# this thread has not been able to push it back for this share of the timeout beyond the timeout.
_LOCK_HELD_SHARE = 0.5


class Watchdog:
    """Prints stack traces after `timeout_s` without a sign of life, and again after each further `timeout_s`.

    Args:
        timeout_s: silence that counts as a stall.
        rank: this process' number, for the message.
        last_step: the step that the run continues from.
        output: where to print; must be backed by a file descriptor. None: standard error.
    """

    def __init__(self, timeout_s: float, *, rank: int, last_step: int, output: TextIO | None = None) -> None:
        self._timeout_s = timeout_s
        self._rank = rank
        self._last_step = last_step
        # faulthandler writes to a descriptor; a replaced sys.stderr may have none.
        self._output = output or sys.__stderr__ or sys.stderr
        self._alive_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def alive(self, step: int | None = None) -> None:
        """Restart the timeout: a step finished if `step` is given, else a validation or a save."""
        self._alive_at = time.monotonic()
        if step is not None:
            self._last_step = step

    def stop(self) -> None:
        """End the thread; safe to call twice."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        poll_s = min(self._timeout_s / 4, 5.0)
        reported_at = self._alive_at
        while not self._stopped.wait(poll_s):
            faulthandler.dump_traceback_later(self._timeout_s * (1 + _LOCK_HELD_SHARE) + poll_s, file=self._output)
            quiet_since = max(self._alive_at, reported_at)
            if time.monotonic() - quiet_since >= self._timeout_s:
                reported_at = time.monotonic()
                self._report(reported_at - self._alive_at)
        faulthandler.cancel_dump_traceback_later()

    def _report(self, quiet_s: float) -> None:
        # One write, so that the header does not mix with another rank's.
        header = (
            f"\nwatchdog: rank {self._rank} (pid {os.getpid()}) has not finished a step for {quiet_s:.0f} s; "
            f"the last one was {self._last_step}. Where its threads are:\n"
        )
        self._output.write(header)
        self._output.flush()
        faulthandler.dump_traceback(file=self._output, all_threads=True)
        self._output.write(f"watchdog: end of rank {self._rank}; the run goes on\n")
        self._output.flush()
