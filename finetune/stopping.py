"""A signal that ends the process while an output is half written."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def tidy_when_stopped() -> Iterator[None]:
    """End by an exception on SIGTERM and SIGHUP, not abruptly: what is half written is removed on the way out.

    The status is 128 + the signal's number, as it is without this.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the tidying
        print(f"stopped by {signal.Signals(number).name}; nothing was written", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    # Handlers of whoever calls this as a library stay, and so does nohup's choice to ignore.
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
