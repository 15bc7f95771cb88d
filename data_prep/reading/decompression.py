"""Compressed files as byte streams: which compression their first bytes show, and all the streams that they hold."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from data_prep.reading.byte_stream import ByteStream

MAX_WINDOW_BYTES = 2**31
COMPRESSIONS = {
    ".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".xz": "xz", ".bz2": "bzip2"
}  # fmt: skip
"""What a file is compressed with, by its ending."""
_MAGIC = {
    "gzip": rb"\x1f\x8b",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "xz": rb"\xfd7zXZ\0",
    "bzip2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
}
_OTHER_MAGIC = {
    "a ZIP archive": rb"PK\x03\x04|PK\x05\x06",
    "a Parquet file": rb"PAR1",
    "an Arrow file": rb"ARROW1",
    "a PDF file": rb"%PDF-",
    "a 7-Zip archive": rb"7z\xbc\xaf\x27\x1c",
    "a RAR archive": rb"Rar!\x1a\x07",
    "lz4": rb"\x04\x22\x4d\x18",
    "a tar archive": rb"(?s:.{257}ustar)",
    "an HDF5 file": rb"\x89HDF\r\n",
    "an SQLite database": rb"SQLite format 3\0",
    "an image": rb"\x89PNG|\xff\xd8\xff|GIF8",
    "an Office file": rb"\xd0\xcf\x11\xe0",
    "NumPy data": rb"\x93NUMPY",
    "a pickle": rb"\x80[\x02-\x05][\x8c\x95}\](c]",
}
MAGIC_BYTES = 262
_CHUNK_BYTES = 1 << 15  # what comes out is then as small as other blocks, see files.CHUNK_BYTES
_MAX_PIECE_BYTES = 1 << 18


def compression_shown(head: bytes) -> str | None:
    """What a file is compressed with by its first bytes; None: with nothing that is read here."""
    return next((name for name, magic in _MAGIC.items() if re.match(magic, head)), None)


def content_shown(head: bytes) -> str | None:
    """What a file that is no text is by its first `MAGIC_BYTES` bytes, for a message; None: unknown."""
    return compression_shown(head) or next(
        (name for name, magic in _OTHER_MAGIC.items() if re.match(magic, head)), None
    )


class DecompressedStream(ByteStream):
    """The content of all streams in a compressed file, one after the other.

    Zero bytes between streams and at the end are padding. The libraries' own readers end early in silence where a
    Zstandard file is cut, or where something else follows an xz or bzip2 stream, and refuse the padding of xz.

    Args:
        raw: the file.
        compression: one of the values of `COMPRESSIONS`.
        max_window_bytes: the largest window of Zstandard that is held in memory.

    Raises:
        EOFError: from a read, if the file ends within a stream.
        OSError: from a read, if the file is not what it should be, or needs a larger window.
    """

    def __init__(self, raw: BinaryIO, compression: str, max_window_bytes: int = MAX_WINDOW_BYTES) -> None:
        super().__init__(raw)
        self._compression, self._max_window_bytes = compression, max_window_bytes
        self._errors: tuple[type[Exception], ...] = (zlib.error, lzma.LZMAError, OSError)
        if compression == "zstd":
            import zstandard

            self._decompressor = zstandard.ZstdDecompressor(max_window_size=max_window_bytes)
            self._errors = (zstandard.ZstdError,)
        self._stream: Any = None
        self._begun = False  # whether a stream came before
        self._compressed = b""
        self._failure: OSError | None = None  # comes after what lies before it

    def _next_piece(self) -> bytes | None:
        if self._failure is not None:
            raise self._failure
        # Some hold output back, so that what is small in the file does not fill the memory.
        if not self._compressed and getattr(self._stream, "needs_input", True):
            self._compressed = self._read(_CHUNK_BYTES)
            if not self._compressed:
                if self._stream is not None:
                    raise EOFError
                return None
        if self._stream is None:
            if self._begun:
                self._compressed = self._compressed.lstrip(b"\0")
                if not self._compressed:
                    return b""
            self._stream, self._begun = self._new_stream(), True
        given, self._compressed = self._compressed, b""
        piece = self._decompressed(given)
        if self._failure is None and self._stream.eof:
            self._compressed, self._stream = self._stream.unused_data, None
        return piece

    def _decompressed(self, given: bytes) -> bytes:
        # What the library has made of a chunk is lost when it fails within it.
        before = self._stream.copy() if self._compression == "gzip" else None
        try:
            if self._compression in ("xz", "bzip2"):
                return self._stream.decompress(given, _MAX_PIECE_BYTES)
            return self._stream.decompress(given)
        except self._errors as error:
            self._failure = OSError(f"is not valid {self._compression}: {self._explained(str(error))}")
        return b"".join(self._up_to_the_break(before, given)) if before is not None else b""

    def _up_to_the_break(self, stream: Any, given: bytes) -> Iterator[bytes]:
        try:
            for at in range(len(given)):
                yield stream.decompress(given[at : at + 1])
        except self._errors:
            return

    def _new_stream(self) -> Any:
        if self._compression == "gzip":
            return zlib.decompressobj(wbits=31)
        if self._compression == "zstd":
            return self._decompressor.decompressobj()
        return lzma.LZMADecompressor() if self._compression == "xz" else bz2.BZ2Decompressor()

    def _explained(self, problem: str) -> str:
        if "requires too much memory" in problem:
            return f"its window is larger than max_window_bytes = {self._max_window_bytes}"
        return problem
