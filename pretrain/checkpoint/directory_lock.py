"""One run at a time writes checkpoints into a directory."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from configs.errors import CheckpointError
from data_prep.storage.locks import holder_of, is_here, locked

LOCK_FILE = ".lock"
WAIT_S = 120.0
"""How long a lock of another machine is waited for: file servers keep the locks of a dead machine for a while."""
WAIT_HERE_S = 10.0
"""The same for a lock of this machine, which goes with its process."""


class DirectoryLock:
    """An exclusive lock on a checkpoint directory, held until `release` or the end of the process.

    Forked data workers, which may outlive a killed run, do not hold it.

    Raises:
        CheckpointError: another run holds the lock; names its machine and process.
    """

    def __init__(self, root: Path) -> None:
        self._held = ExitStack()
        path, start, told = root / LOCK_FILE, time.monotonic(), False
        while not self._held.enter_context(locked(path, named=True)):
            self.release()
            holder = holder_of(path)
            if time.monotonic() - start >= (WAIT_HERE_S if is_here(holder) else WAIT_S):
                raise CheckpointError(
                    f"another run ({holder}) is writing checkpoints here",
                    where=root,
                    expected="an output of its own for each run",
                )
            if not told:
                print(f"waiting for {holder}, which holds {path}", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.2)

    def release(self) -> None:
        """Release the lock."""
        self._held.close()

    def __del__(self) -> None:
        self.release()
