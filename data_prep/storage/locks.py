"""Who does what, agreed through the file system: locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(
    path: Path,
    wait: bool = False,
    make_parent: bool = False,
    shared: bool = False,
    inherited: bool = False,
    named: bool = False,
) -> Iterator[bool]:
    """Hold the lock `path` in the block; yields False when another process has it.

    Where the file system has no locks, a file in this machine's directory of temporary files stands for it: work may
    then be done on several machines, with the same result.

    Args:
        path: the lock file, made if needed.
        wait: for the lock to become free.
        make_parent: make the directory that it lies in, which others may rename or remove at any time, as they may
            the file.
        shared: with others who hold it so.
        inherited: hold it as long as a forked process of the holder lives, too.
        named: write into the file which process has it, see `holder_of`.
    """
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
            mine = _lock(descriptor, wait, shared, inherited)
            if make_parent and not _is_at(path, descriptor):
                # Whoever had it took the file away, so that others lock a new one.
                continue
            if mine is None:
                with _locked_here(path, wait, shared, inherited) as mine:
                    yield mine
                return
            if mine and named:
                # It is for messages alone: a full disk is no reason to go without.
                with suppress(OSError):
                    os.truncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            yield mine
            return
        finally:
            os.close(descriptor)


@contextmanager
def locked_directory(path: Path) -> Iterator[bool]:
    """Hold a lock on a directory itself; yields False when another process has it, or the file system has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        try:
            mine = _lock(descriptor, wait=False, shared=False, inherited=True) is True
        except OSError:
            mine = False  # NFS locks what is open for writing alone
        yield mine
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock `path`, alone or with others; none does where there is no such file."""
    if not path.exists():
        return False
    with locked(path) as mine:
        return not mine


def holder_of(path: Path) -> str:
    """Which process holds a lock that is not this one's, as `process 12 on host`, or `another process`."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip() or "another process"
    return "another process"


def is_here(holder: str) -> bool:
    """Whether what `holder_of` told is a process of this machine."""
    return holder.endswith(f" on {socket.gethostname()}")


@contextmanager
def _locked_here(path: Path, wait: bool, shared: bool, inherited: bool) -> Iterator[bool]:
    name = f"bessemer-{os.getuid()}-{zlib.crc32(os.path.realpath(path).encode('utf-8', 'surrogateescape')):08x}.lock"
    descriptor = os.open(Path(tempfile.gettempdir()) / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield _lock(descriptor, wait, shared, inherited) is not False
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool, shared: bool, inherited: bool) -> bool | None:
    """Whether the lock is ours now; None: the file system has none."""
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        (fcntl.flock if inherited else fcntl.lockf)(descriptor, how)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
