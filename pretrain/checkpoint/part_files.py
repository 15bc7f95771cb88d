"""Reading from the part files of one checkpoint.

Positioned reads straight into the target instead of a memory map: one copy, no page faults, and a disk error is an
exception that names the file where a map would kill the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import xxhash

from pretrain.checkpoint.manifest import ManifestProblem, Part

CHUNK_BYTES = 1 << 20
MAX_OPEN_FILES = 64


class PartFiles:
    """The part files of a checkpoint, opened when they are first read.

    Args:
        path: the checkpoint.
        parts: what its files hold.
    """

    def __init__(self, path: Path, parts: list[Part]) -> None:
        self.path = path
        self.parts = parts
        self._open: dict[int, int] = {}
        self._chunk = memoryview(bytearray())

    def read_into(self, number: int, offset: int, target: memoryview) -> None:
        """Fill `target` from byte `offset` of part `number`.

        Raises:
            ManifestProblem: the file is missing, too short or cannot be read; names it.
        """
        descriptor = self._descriptor(number)
        try:
            while len(target):
                count = os.preadv(descriptor, [target[: 1 << 30]], offset)
                if count == 0:
                    raise ManifestProblem(f"{self.parts[number].file}: ends at byte {offset}")
                offset += count
                target = target[count:]
        except OSError as error:
            raise ManifestProblem(f"{self.parts[number].file}: cannot be read ({error.strerror})") from None

    def read_hashed(self, number: int, offset: int, target: memoryview) -> str:
        """As `read_into`; returns the xxh3 of what was read, taken while it is in the processor's cache."""
        digest = xxhash.xxh3_64()
        for start in range(0, len(target), CHUNK_BYTES):
            chunk = target[start : start + CHUNK_BYTES]
            self.read_into(number, offset + start, chunk)
            digest.update(chunk)
        return digest.hexdigest()

    def hash_range(self, number: int, offset: int, size: int) -> str:
        """xxh3 of a range of part `number`.

        Raises:
            ManifestProblem: as `read_into`.
        """
        if not len(self._chunk):
            self._chunk = memoryview(bytearray(CHUNK_BYTES))
        digest = xxhash.xxh3_64()
        for start in range(offset, offset + size, CHUNK_BYTES):
            chunk = self._chunk[: min(CHUNK_BYTES, offset + size - start)]
            self.read_into(number, start, chunk)
            digest.update(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        """Close what is open; reading opens it again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> PartFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _descriptor(self, number: int) -> int:
        if number not in self._open:
            if len(self._open) >= MAX_OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            part = self.parts[number]
            try:
                descriptor = os.open(self.path / part.file, os.O_RDONLY)
                size = os.fstat(descriptor).st_size
            except OSError as error:
                raise ManifestProblem(f"{part.file}: cannot be opened ({error.strerror})") from None
            self._open[number] = descriptor
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            if size != part.file_bytes:
                raise ManifestProblem(f"{part.file}: holds {size} bytes; {part.file_bytes} were written")
        return self._open[number]
