"""A signal that asks a run to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from configs.errors import ExitStatus

# One Ctrl-C reaches a rank twice: from the terminal, and from a launcher that passes it on.
_SAME_KEYSTROKE_S = 1.0


class StopRequest:
    """A stop flag that SIGTERM, SIGINT and SIGUSR2 set, for the loop to read between two steps.

    The first signal asks for: finish the step, save, exit with `ExitStatus.INTERRUPTED`. A SIGINT more than a second
    after an earlier one ends the process at once, without saving. Use as a context manager, in the main thread; the
    earlier handlers come back at its end. The ranks must agree on the step after which they stop: that is the loop's.

    Args:
        has_begun: whether there is something to finish and ranks wait for each other. Before that, until `begin` is
            called, a signal ends the process at once, with the same status: nothing is lost.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

    def __init__(self, *, has_begun: bool = True) -> None:
        self._has_begun = has_begun
        self._requested: str | None = None
        self._first_interrupt_s: float | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> str | None:
        """Name of the first signal that came, such as `SIGTERM`; None while there was none."""
        return self._requested

    def begin(self) -> None:
        """From now on a first signal sets the flag instead of ending the process."""
        self._has_begun = True

    def install(self) -> StopRequest:
        """Install the signal handlers.

        Raises:
            RuntimeError: outside the main thread, where Python allows no handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signal handlers can only be installed in the main thread")
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def uninstall(self) -> None:
        """Put the earlier handlers back; safe to call twice."""
        for number, handler in self._previous.items():
            # None: a handler that was not installed from Python, which it cannot give back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def __enter__(self) -> StopRequest:
        return self.install()

    def __exit__(self, *_: object) -> None:
        self.uninstall()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if not self._has_begun:
            _say(f"{name}: training has not begun, nothing is lost; the same command starts again")
            os._exit(int(ExitStatus.INTERRUPTED))
        if number == signal.SIGINT:
            if self._first_interrupt_s is None:
                self._first_interrupt_s = now
            elif now - self._first_interrupt_s > _SAME_KEYSTROKE_S:
                _say("second SIGINT: exiting at once, nothing is saved")
                os._exit(128 + signal.SIGINT)
        if self._requested is None:
            self._requested = name
            _say(f"{name}: finishing the step and saving; a second Ctrl-C exits at once")


def _say(text: str) -> None:
    # os.write, since a handler may interrupt a print that holds the stream's lock.
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
