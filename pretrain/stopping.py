"""Why a run ends before its time: a signal that asks for it, or a model that diverged."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import Any

from configs.errors import ExitStatus, UserError
from pretrain.monitor.records import StepRecord

# One Ctrl-C reaches a rank twice: from the terminal, and from a launcher that passes it on.
_SAME_KEYSTROKE_S = 1.0


class StopRequest:
    """Turns SIGTERM, SIGINT and SIGUSR2 into a wish that the loop reads between two steps.

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
        """From now on a signal is a wish."""
        self._has_begun = True

    def install(self) -> StopRequest:
        """Take the signals over.

        Raises:
            RuntimeError: outside the main thread, where Python allows no handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signal handlers can only be installed in the main thread")
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def uninstall(self) -> None:
        """Give the signals back; safe to call twice."""
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


class Diverged(UserError):
    """Too many steps in a row had a loss or a gradient that is not finite."""

    status = ExitStatus.DIVERGED


class NonFiniteGuard:
    """Ends a run whose steps are skipped again and again.

    A step that fp16 skips because its loss scale is still too high is not counted while the scale can fall: the loss
    is finite and the scale above 1. That is how the scale is found.

    Args:
        max_in_a_row: skipped steps in a row that end the run; 0 and 1 end it at the first.
        remembered: steps that the report shows.
    """

    def __init__(self, max_in_a_row: int, remembered: int = 8) -> None:
        self._max_in_a_row = max(1, max_in_a_row)
        self._recent: deque[StepRecord] = deque(maxlen=remembered)
        self._in_a_row = 0

    @property
    def in_a_row(self) -> int:
        """Counted skipped steps since the last good one."""
        return self._in_a_row

    def observe(self, record: StepRecord) -> None:
        """Take a finished step into account; the same on every rank, since records are.

        Raises:
            Diverged: when the last `max_in_a_row` steps were skipped.
        """
        self._recent.append(record)
        if not record.skipped:
            self._in_a_row = 0
        elif not _searches_loss_scale(record):
            self._in_a_row += 1
        if self._in_a_row >= self._max_in_a_row:
            raise Diverged(self._report(), where=f"step {record.step}")

    def _report(self) -> str:
        times = "step" if self._in_a_row == 1 else f"{self._in_a_row} steps in a row"
        lines = [f"training diverged: the last {times} had a loss or gradient that is not finite and left no update"]
        lines += [f"  {'step':>8}  {'loss':>10}  {'grad norm':>10}  {'lr':>10}  skipped"]
        lines += [
            f"  {r.step:>8}  {r.loss:>10.4g}  {r.grad_norm:>10.4g}  {r.learning_rate:>10.3g}  "
            f"{'yes' if r.skipped else 'no'}"
            for r in self._recent
        ]
        lines.append("  what to try: " + "; ".join(self._advice()))
        return "\n".join(lines)

    def _advice(self) -> list[str]:
        last = self._recent[-1]
        advice = ["resume from an earlier checkpoint with a lower optimizer.lr", "a longer optimizer.warmup"]
        if last.loss_scale is not None:
            advice.append("training.precision=bf16, whose range fp16 lacks")
        elif math.isfinite(last.loss):
            advice.append("a smaller optimizer.clip_grad_norm (the loss is finite, the gradient is not)")
        else:
            advice.append("training.precision=fp32 for a few steps, to tell a bad range from bad data or weights")
        return advice


def _searches_loss_scale(record: StepRecord) -> bool:
    return record.loss_scale is not None and record.loss_scale > 1 and math.isfinite(record.loss)
