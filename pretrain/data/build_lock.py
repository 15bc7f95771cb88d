"""One builder per machine, the others wait: a lock file, looked at again and again. No collective takes part.

The lock only saves work: what is built appears by a rename and is the same whoever builds it, so two builders at once
would do no harm. That is why a lock whose holder is gone may simply be taken over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

HEARTBEAT_S = 5.0
STALE_S = 60.0
_POLL_S = 0.1
_FIRST_NOTICE_S = 2.0
_NEXT_NOTICE_S = 30.0


@contextmanager
def built_once(lock: Path, is_built: Callable[[], bool], what: str, stale_s: float = STALE_S) -> Iterator[bool]:
    """Enter holding the lock if it falls to this process to build, or as soon as another has built.

    Args:
        lock: path of the lock file, on a file system that the contenders share.
        is_built: whether the thing is there; asked while waiting.
        what: name of the thing, for the line that says what is waited for.
        stale_s: time after which a lock that its holder no longer touches is taken over.

    Yields:
        True if this process is to build.
    """
    held = _wait(lock, is_built, what, stale_s)
    if held is None:
        yield False
        return
    with held:
        # Another may have finished between the last look and the lock.
        yield not is_built()


def _wait(lock: Path, is_built: Callable[[], bool], what: str, stale_s: float) -> _HeldLock | None:
    began = last_change = time.monotonic()
    next_notice = began + _FIRST_NOTICE_S
    last_seen: object = None
    while True:
        held = _HeldLock.acquire(lock)
        if held is not None:
            return held
        if is_built():
            return None
        seen, holder = _read(lock)
        now = time.monotonic()
        # Only this machine's clock is asked: has the file changed since it was last looked at?
        if seen != last_seen:
            last_seen, last_change = seen, now
        if seen is not None and (_is_dead(holder) or now - last_change > stale_s):
            _take_away(lock, seen)
            continue
        if now >= next_notice:
            _notice(what, holder, now - began)
            next_notice = now + _NEXT_NOTICE_S
        time.sleep(_POLL_S)


class _HeldLock:
    """A lock that this process holds; a thread touches the file so that others see its holder alive."""

    def __init__(self, path: Path, nonce: str) -> None:
        self._path = path
        self._nonce = nonce
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="data-index-lock", daemon=True)

    @classmethod
    def acquire(cls, path: Path) -> _HeldLock | None:
        """The lock, or None if somebody holds it."""
        process = psutil.Process()
        nonce = secrets.token_hex(8)
        content = {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time(), "nonce": nonce}
        try:
            with path.open("x") as stream:
                json.dump(content, stream)
        except FileExistsError:
            return None
        return cls(path, nonce)

    def __enter__(self) -> _HeldLock:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        if _read(self._path)[1].get("nonce") == self._nonce:
            self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                # Taken over by somebody who thought us dead; harmless, see above.
                return


def _read(lock: Path) -> tuple[tuple[int, int] | None, dict[str, Any]]:
    """What identifies the state of the lock file (None: it is gone), and who holds it."""
    try:
        status = lock.stat()
        holder = json.loads(lock.read_text())
    except FileNotFoundError:
        return None, {}
    except ValueError:
        holder = None  # Between its creation and its first words.
    return (status.st_ino, status.st_mtime_ns), holder if isinstance(holder, dict) else {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that no longer runs."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        # Another process may have got the number since; it did not start at the same time.
        return abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) > 1.0
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return True
    except psutil.AccessDenied:
        return False


def _take_away(lock: Path, seen: tuple[int, int]) -> None:
    aside = lock.with_name(f".{lock.name}.stale-{secrets.token_hex(4)}")
    if _read(lock)[0] != seen:
        return
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    aside.unlink(missing_ok=True)


def _notice(what: str, holder: dict[str, Any], waited_s: float) -> None:
    # At most one process builds, so one of the first two on a machine waits: enough to be told once or twice.
    if os.environ.get("LOCAL_RANK", "0") not in ("0", "1"):
        return
    builder = f"process {holder['pid']} on {holder['host']} builds it" if "pid" in holder else "it is being built"
    print(f"waiting for the data index {what}: {builder} ({waited_s:.0f} s so far)", file=sys.stderr, flush=True)
