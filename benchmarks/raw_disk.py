"""What the disk and the memory can do without us: the yardsticks of the other benchmarks."""

from __future__ import annotations

import os
import time
from pathlib import Path

CHUNK_BYTES = 8 << 20


def timed_write(path: Path, data: memoryview) -> float:
    """Seconds to write `data` to a new file and flush it to the disk."""
    started_s = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            rest = data[start : start + CHUNK_BYTES]
            while len(rest):
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return time.perf_counter() - started_s


def timed_read(path: Path, target: memoryview) -> float:
    """Seconds to read a file into memory that is already there."""
    started_s = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        offset = 0
        while count := os.preadv(descriptor, [target[offset : offset + CHUNK_BYTES]], offset):
            offset += count
    finally:
        os.close(descriptor)
    return time.perf_counter() - started_s


def forget(path: Path) -> None:
    """Drop a file, or the files in a directory, from the page cache, so that a read comes from the disk."""
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
