"""One run at a time writes checkpoints into a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from pathlib import Path

from configs.errors import CheckpointError

LOCK_FILE = ".lock"
WAIT_S = 120.0
"""How long a lock of another machine is waited for: file servers keep the locks of a dead machine for a while."""
WAIT_HERE_S = 10.0
"""The same for a lock of this machine, which goes with its process."""


class DirectoryLock:
    """An exclusive lock on a checkpoint directory, held until `release` or the end of the process.

    A record lock (`lockf`), since that is not inherited by forked data workers that may outlive a killed run, and
    works over NFS. Where the file system knows no locks, it goes without.

    Raises:
        CheckpointError: another run holds the lock; names its machine and process.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / LOCK_FILE
        self._descriptor: int | None = None
        start, told = time.monotonic(), False
        while not self._try():
            holder = self._holder()
            limit_s = WAIT_HERE_S if holder.startswith(f"{socket.gethostname()} ") else WAIT_S
            if time.monotonic() - start >= limit_s:
                raise CheckpointError(
                    f"another run ({holder}) is writing checkpoints here",
                    where=root,
                    expected="an output of its own for each run",
                )
            if not told:
                print(f"waiting for {holder}, which holds {self._path}", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.2)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                return False
        self._descriptor = descriptor
        with contextlib.suppress(OSError):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{socket.gethostname()} process {os.getpid()}".encode(), 0)
        return True

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return self._path.read_text(errors="replace").strip() or "unknown"
        return "unknown"
