"""Zstandard files as byte streams, with truncated ones noticed (the library's own reader ends early in silence)."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 15  # what comes out is then as small as other blocks, see files.CHUNK_BYTES


class ZstdStream(io.RawIOBase):
    """Decompresses all frames of a file, one after the other; closing it closes the file.

    Raises:
        EOFError: from a read, if the file ends within a frame.
        OSError: from a read, if the file is not Zstandard.
    """

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor()
        self._error = zstandard.ZstdError
        self._file = raw
        self._frame: Any = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def read1(self, size: int = -1) -> bytes:
        """The next decompressed bytes, at most `size` unless that is negative; nothing at the end."""
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
        """Fill `buffer` with the next decompressed bytes; 0 at the end."""
        if not self._fill():
            return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fill(self) -> bool:
        while not self._ready:
            if not self._compressed:
                self._compressed = self._file.read(_CHUNK_BYTES)
                if not self._compressed:
                    if self._frame is not None:
                        raise EOFError("ends within a frame")
                    return False
            self._advance()
        return True

    def _advance(self) -> None:
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(self._compressed))
        except self._error as error:
            raise OSError(f"not valid Zstandard: {error}") from None
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data, None
        else:
            self._compressed = b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
