"""One process builds, the others wait: a lock, looked at again and again. No collective takes part.

The lock only saves work: what is built appears by a rename and is the same whoever builds it, so two builders at once
would do no harm.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.storage.locks import holder_of, locked

_POLL_S = 0.1
_FIRST_NOTICE_S = 2.0
_NEXT_NOTICE_S = 30.0


@contextmanager
def built_once(lock: Path, is_built: Callable[[], bool], what: str) -> Iterator[bool]:
    """Enter holding the lock if it falls to this process to build, or as soon as another has built.

    Args:
        lock: path of the lock file, on a file system that the contenders share.
        is_built: whether the thing is there; asked while waiting.
        what: name of the thing, for the line that says what is waited for.

    Yields:
        True if this process is to build.
    """
    began = time.monotonic()
    next_notice = began + _FIRST_NOTICE_S
    while True:
        with locked(lock, make_parent=True, named=True) as mine:
            if mine:
                try:
                    # Another may have finished between the last look and the lock.
                    yield not is_built()
                finally:
                    lock.unlink(missing_ok=True)
                return
        if is_built():
            yield False
            return
        now = time.monotonic()
        if now >= next_notice:
            _notice(what, holder_of(lock), now - began)
            next_notice = now + _NEXT_NOTICE_S
        time.sleep(_POLL_S)


def _notice(what: str, holder: str, waited_s: float) -> None:
    # At most one process builds, so one of the first two on a machine waits: enough to be told once or twice.
    if os.environ.get("LOCAL_RANK", "0") not in ("0", "1"):
        return
    print(
        f"waiting for the data index {what}: {holder} builds it ({waited_s:.0f} s so far)", file=sys.stderr, flush=True
    )
