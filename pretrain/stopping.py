"""A signal that asks a run to stop.

Python runs a signal's handler in the main thread, between two of its instructions: never while that thread waits in C
for other ranks. So a thread takes the signals, from the socket that `signal.set_wakeup_fd` has them written to.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from configs.errors import ExitStatus
from pretrain.parallel.launch import is_main_process

SAME_KEYSTROKE_S = 1.0
"""One Ctrl-C reaches a rank twice: from the terminal, and from a launcher that passes it on."""
_END = 0  # no signal has this number


class StopRequest:
    """A stop flag that SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 set, for the loop to read between two steps.

    The first signal asks for: finish the step, save, exit with `ExitStatus.INTERRUPTED`. A SIGINT more than a second
    after an earlier one ends the process at once, without saving, also while it waits for other ranks. A SIGHUP that
    is ignored, as under nohup, stays so. Use as a context manager, in the main thread; the earlier handlers come back
    at its end. The ranks must agree on the step after which they stop: that is the loop's.

    Args:
        has_begun: whether there is something to finish and ranks wait for each other. Before that, until `begin` is
            called, a signal ends the process at once, with the same status: nothing is lost.
        same_keystroke_s: seconds in which a second SIGINT is taken for the first one.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self, *, has_begun: bool = True, same_keystroke_s: float = SAME_KEYSTROKE_S) -> None:
        self._has_begun = has_begun
        self._same_keystroke_s = same_keystroke_s
        self._requested: str | None = None
        self._first_interrupt_s: float | None = None
        self._previous: dict[signal.Signals, Any] = {}
        # Both threads take signals, and a handler may interrupt a handler.
        self._taking = threading.RLock()

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
        self._is_uninstalled = False
        self._inbox, self._outbox = socket.socketpair()
        self._inbox.setblocking(False)
        self._outbox.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        for number in self.SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def uninstall(self) -> None:
        """Put the earlier handlers back; safe to call twice."""
        if not self._previous:
            return
        for number, handler in self._previous.items():
            # None: a handler that was not installed from Python, which it cannot give back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}
        signal.set_wakeup_fd(self._previous_fd)
        self._outbox.setblocking(True)
        self._outbox.send(bytes([_END]))
        self._thread.join()
        self._inbox.close()
        self._outbox.close()

    def __enter__(self) -> StopRequest:
        return self.install()

    def __exit__(self, *_: object) -> None:
        self.uninstall()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        # Where the main thread runs Python, it knows at once; each signal is taken by whoever reads it first.
        self._take_all()

    def _listen(self) -> None:
        while not self._is_uninstalled:
            select.select([self._inbox], [], [])
            self._take_all()

    def _take_all(self) -> None:
        with self._taking, contextlib.suppress(BlockingIOError):
            while True:
                for number in self._inbox.recv(64):
                    if number == _END:
                        self._is_uninstalled = True
                    elif number in self._previous:  # all handled signals are written, those of others too
                        self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if not self._has_begun:
            _say(f"{number.name}: nothing was begun that could be lost; the same command starts again")
            os._exit(int(ExitStatus.INTERRUPTED))
        if number == signal.SIGINT:
            if self._first_interrupt_s is None:
                self._first_interrupt_s = now
            elif now - self._first_interrupt_s > self._same_keystroke_s:
                _say("second SIGINT: exiting at once, nothing is saved")
                os._exit(128 + signal.SIGINT)
        if self._requested is None:
            self._requested = number.name
            _say(f"{number.name}: finishing the step and saving; a second Ctrl-C exits at once")


def _say(text: str) -> None:
    # os.write, since a handler may interrupt a print that holds the stream's lock.
    if is_main_process():
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
