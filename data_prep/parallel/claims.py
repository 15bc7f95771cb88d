"""Who does what, agreed through the file system: locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def claimed(path: Path, wait: bool = False, make_parent: bool = False) -> Iterator[bool]:
    """Hold the lock `path` in the block; yields False when another process has it.

    Where the file system has no locks, everybody gets it: work may then be done twice, with the same result.

    Args:
        path: the lock file, made if needed.
        wait: for the lock to become free.
        make_parent: make the directory that it lies in, which others may rename at any time.
    """
    while True:
        if make_parent:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            break
        except FileNotFoundError:
            if not make_parent:
                raise
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            mine = True
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                mine = False
            elif error.errno in _NO_LOCKS:
                mine = True
            else:
                raise
        yield mine
    finally:
        os.close(descriptor)
