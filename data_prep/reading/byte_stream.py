"""Streams of bytes that are made of the bytes of another stream: decompressed, in another encoding, in other lines."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any, BinaryIO


class ByteStream(io.RawIOBase):
    """Gives out what `_next_piece` makes; closing it closes the stream below.

    Attributes:
        _read: the next bytes of the stream below, one read of it at a time: what lies before a break is not lost.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._read: Any = getattr(raw, "read1", raw.read)
        self._ready = memoryview(b"")

    @abstractmethod
    def _next_piece(self) -> bytes | None:
        """Some bytes, maybe none; None at the end."""

    def _fill(self) -> bool:
        while not self._ready:
            piece = self._next_piece()
            if piece is None:
                return False
            self._ready = memoryview(piece)
        return True

    def read1(self, size: int = -1) -> bytes:
        """The next bytes, at most `size` unless that is negative; nothing at the end."""
        if not self._fill():
            return b""
        if size < 0 or size >= len(self._ready):
            ready, self._ready = self._ready, memoryview(b"")
            return ready.obj if len(ready) == len(ready.obj) else bytes(ready)  # type: ignore[arg-type, return-value]
        ready, self._ready = self._ready[:size], self._ready[size:]
        return bytes(ready)

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 at the end."""
        if not self._fill():
            return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Close the stream below."""
        self._raw.close()
        super().close()
