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
def claimed(path: Path, wait: bool = False, make_parent: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the lock `path` in the block; yields False when another process has it.

    Where the file system has no locks, everybody gets it: work may then be done twice, with the same result.

    Args:
        path: the lock file, made if needed.
        wait: for the lock to become free.
        make_parent: make the directory that it lies in, which others may rename or remove at any time.
        shared: with others who hold it so.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        if make_parent:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            if not make_parent:
                raise
            continue
        try:
            mine = _lock(descriptor, how)
            if make_parent and not _is_at(path, descriptor):
                # Whoever had it took the file away, so that others lock a new one.
                continue
            yield mine
            return
        finally:
            os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Whether another process holds the lock `path`, alone or with others; none does where there is no such file."""
    if not path.exists():
        return False
    with claimed(path) as mine:
        return not mine


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.lockf(descriptor, how)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
