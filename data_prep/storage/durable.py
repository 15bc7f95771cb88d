"""Bytes that survive a power failure, and one message for a disk that does not take them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from configs.errors import MachineError, UserError

_SYNC_FILE_RANGE_WRITE = 2


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error in the block (full disk, no permission) into one message about `path`.

    Raises:
        MachineError: in place of any `OSError`.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise MachineError(
            f"cannot be written: {error.strerror or error}", where=error.filename2 or error.filename or path
        ) from error


def flush_to_disk(path: Path) -> None:
    """Make the contents of a file, or the entries of a directory, survive a power failure.

    Raises:
        OSError: what the file system says.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and put its bytes on the disk; its name is not durable yet.

    Raises:
        OSError: what the file system says.
    """
    path.write_bytes(data)
    flush_to_disk(path)


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
