"""tar and zip archives: their members as files, named `ARCHIVE!/MEMBER`; nothing is unpacked on disk.

The members of a compressed tar can only be read one after the other. Whoever reads them in their order, as units of
work are, passes over the archive once; who does not, begins at its start again.
"""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from data_prep.reading.byte_stream import ByteStream
from data_prep.reading.decompression import MAGIC_BYTES, DecompressedStream, compression_shown

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.zstd")
ARCHIVES = (*_TAR, ".zip")
_BORDER = "!/"
_BUFFER_BYTES = 1 << 18
_ERRORS = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path there.
        size_bytes: its size, unpacked.
        offset: where its bytes begin in a tar that is not compressed; None: they are not there as they are.
    """

    name: str
    size_bytes: int
    offset: int | None


def is_archive(path: str) -> bool:
    """Whether a name is that of an archive."""
    return path.lower().endswith(ARCHIVES)


def member_path(archive: str, member: str) -> str:
    """The name of a file in an archive."""
    return f"{archive}{_BORDER}{member}"


def split_member(path: str) -> tuple[str, str] | None:
    """Archive and member of such a name; None: it is none."""
    for ending in ARCHIVES:
        at = path.lower().find(ending + _BORDER)
        if at > 0:
            at += len(ending)
            return path[:at], path[at + len(_BORDER) :]
    return None


def members_of(archive: str, open_raw: Callable[[str], BinaryIO]) -> list[Member]:
    """The files in an archive, in its order.

    Raises:
        EOFError: if the archive is damaged.
    """
    with _naming(archive):
        if archive.lower().endswith(".zip"):
            with open_raw(archive) as raw, zipfile.ZipFile(raw) as packed:
                return [Member(info.filename, info.file_size, None) for info in packed.infolist() if not info.is_dir()]
        with open_raw(archive) as raw:
            plain, stream = _tar_stream(raw)
            with tarfile.open(fileobj=stream, mode="r:" if plain else "r|") as tar:
                return [
                    Member(info.name, info.size, info.offset_data if plain and not info.issparse() else None)
                    for info in tar
                    if info.isfile()
                ]


def open_member(path: str, open_raw: Callable[[str], BinaryIO]) -> BinaryIO:
    """The bytes of a file in an archive, as they are stored there.

    Raises:
        KeyError: if there is no such member.
        EOFError: if the archive is damaged.
    """
    found = split_member(path)
    assert found is not None
    archive, name = found
    with _naming(archive):
        if archive.lower().endswith(".zip"):
            packed = zipfile.ZipFile(open_raw(archive))
            return cast(BinaryIO, io.BufferedReader(_ZipMember(packed, name), _BUFFER_BYTES))
        index = _index(archive, open_raw)
        if name not in index:
            raise KeyError(name)
        member = index[name]
        if member.offset is not None:
            raw = open_raw(archive)
            raw.seek(member.offset)
            return cast(BinaryIO, io.BufferedReader(_Slice(raw, member.size_bytes), _BUFFER_BYTES))
        return cast(BinaryIO, io.BufferedReader(_cursor(archive, open_raw).member(name), _BUFFER_BYTES))


class _ZipMember(ByteStream):
    def __init__(self, packed: zipfile.ZipFile, name: str) -> None:
        super().__init__(cast(BinaryIO, packed.open(name)))
        self._packed = packed

    def _next_piece(self) -> bytes | None:
        try:
            return self._read(_BUFFER_BYTES) or None
        except _ERRORS as error:
            raise OSError(f"is damaged: {error}") from None

    def close(self) -> None:
        super().close()
        self._packed.close()


class _Slice(ByteStream):
    """So many bytes of a file from where it stands."""

    def __init__(self, raw: BinaryIO, size_bytes: int) -> None:
        super().__init__(raw)
        self._left = size_bytes

    def _next_piece(self) -> bytes | None:
        piece = self._read(min(self._left, _BUFFER_BYTES)) if self._left else b""
        if self._left and not piece:
            raise EOFError("a complete archive")
        self._left -= len(piece)
        return piece or None


class _OfTar(ByteStream):
    """A member of a tar that is read in its order; it stays open for the next."""

    def _next_piece(self) -> bytes | None:
        try:
            return self._read(_BUFFER_BYTES) or None
        except _ERRORS as error:
            raise EOFError("a complete archive") from error


class _Cursor:
    """A compressed tar that is being read, and the member that comes next."""

    def __init__(self, archive: str, open_raw: Callable[[str], BinaryIO]) -> None:
        self.archive, self._open_raw = archive, open_raw
        self._passed: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._passed.clear()
        self._tar = tarfile.open(fileobj=_tar_stream(self._open_raw(self.archive))[1], mode="r|")  # noqa: SIM115

    def member(self, name: str) -> ByteStream:
        if name in self._passed:
            self.close()
            self._begin()
        while (info := self._tar.next()) is not None:
            self._passed.add(info.name)
            if info.name == name and info.isfile():
                return _OfTar(cast(BinaryIO, self._tar.extractfile(info)))
        raise KeyError(name)

    def close(self) -> None:
        # In this mode it does not close what it was given.
        stream = self._tar.fileobj
        self._tar.close()
        getattr(stream, "fileobj", stream).close()


_open_cursors: list[_Cursor] = []


def _cursor(archive: str, open_raw: Callable[[str], BinaryIO]) -> _Cursor:
    if not _open_cursors or _open_cursors[0].archive != archive:
        while _open_cursors:
            _open_cursors.pop().close()
        _open_cursors.append(_Cursor(archive, open_raw))
    return _open_cursors[0]


@functools.lru_cache(maxsize=4)
def _index(archive: str, open_raw: Callable[[str], BinaryIO]) -> dict[str, Member]:
    return {member.name: member for member in members_of(archive, open_raw)}


def _tar_stream(raw: Any) -> tuple[bool, BinaryIO]:
    """Whether a tar is not compressed, and its bytes."""
    compression = compression_shown(raw.peek(MAGIC_BYTES))
    if compression is None:
        return True, raw
    return False, cast(BinaryIO, io.BufferedReader(DecompressedStream(raw, compression), _BUFFER_BYTES))


@contextmanager
def _naming(archive: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise EOFError(f"a complete archive ({archive}: {str(error) or type(error).__name__})") from None
