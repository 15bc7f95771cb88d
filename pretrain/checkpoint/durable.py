"""Writing that survives a crash: temporary name, fsync, rename, fsync of the directory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2
MAX_JSON_BYTES = 1 << 30


def write_durably(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, entirely or not at all; the caller flushes the directory.

    Raises:
        OSError: what the file system says.
    """
    temporary = path.with_name(path.name + ".writing")
    write_flushed(temporary, data)
    temporary.replace(path)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and put its bytes on the disk; its name is not durable yet.

    Raises:
        OSError: what the file system says.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_small(path: Path, limit_bytes: int = MAX_JSON_BYTES) -> bytes:
    """A whole file that ought to be small.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than `limit_bytes`.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise ValueError(f"holds {size} bytes, more than {limit_bytes}")
        return file.read(limit_bytes + 1)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """The C library's function, where there is one (Linux)."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


def start_writing_back(descriptor: int, offset: int, size: int) -> None:
    """Let the kernel begin to put a written range on the disk, without waiting for it.

    The flush at the end then finds little left to do. Only a hint: what it returns does not matter. Not
    `posix_fadvise`, which also starts the writing, but then waits for every processor of a busy machine.
    """
    if function := _sync_file_range():
        function(descriptor, offset, size, _SYNC_FILE_RANGE_WRITE)


def try_unlink(path: Path) -> None:
    """Remove a file if that can be done; what stays is removed at the next start."""
    with contextlib.suppress(OSError):
        path.unlink()
