"""Signals: those that ask a training to stop, and those that end the process while an output is half written."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from configs.errors import ExitStatus
from pretrain.stopping import StopRequest


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """The stop flag of a training, set by the signals of `StopRequest`; in another thread than the main one by none."""
    stop = StopRequest(has_begun=False)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with stop:
        yield stop


@contextmanager
def tidy_when_stopped(status: ExitStatus | None = None) -> Iterator[None]:
    """End by an exception on SIGTERM and SIGHUP, not abruptly: what is half written is removed on the way out.

    Args:
        status: of the process then, where the same command goes on; all signals that ask for a stop have it. None: the
            status is 128 + the signal's number, as it is without this.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the tidying
        told = "nothing was written" if status is None else "the result is not written; the same command goes on"
        print(f"stopped by {signal.Signals(number).name}; {told}", file=sys.stderr, flush=True)
        raise SystemExit(128 + number if status is None else int(status))

    # Handlers of whoever calls this as a library stay, and so does nohup's choice to ignore.
    numbers = (signal.SIGTERM, signal.SIGHUP) if status is None else StopRequest.SIGNALS
    usual = (signal.SIG_DFL, signal.default_int_handler)
    taken = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in usual}
    if threading.current_thread() is not threading.main_thread():
        taken = {}
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, before in taken.items():
            signal.signal(number, before)
