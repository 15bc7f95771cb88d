"""tar and zip archives: their members as files, named `ARCHIVE!/MEMBER`; nothing is unpacked on disk.

The members of a compressed tar can only be read one after the other. Whoever reads them in their order, as units of
work are, passes over the archive once; who does not, begins at its start again.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from data_prep.reading.byte_stream import ByteStream
from data_prep.reading.decompression import MAGIC_BYTES, DecompressedStream, compression_shown

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.zstd", ".zip")
_BORDER = "!/"
# The query of an address may stand behind the ending.
_ENDING = rf"(?:{'|'.join(re.escape(ending) for ending in sorted(ARCHIVES, key=len, reverse=True))})(?:\?[^!/]*)?"
_ARCHIVE = re.compile(rf"{_ENDING}$", re.I)
_MEMBER = re.compile(rf"{_ENDING}{_BORDER}", re.I)
_BUFFER_BYTES = 1 << 18
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError, EOFError)
_UNREADABLE = (NotImplementedError, RuntimeError)  # unknown compressions, passwords
Opener = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path there; bytes that are not UTF-8 are written as escapes.
        size_bytes: its size, unpacked.
        offset: where its bytes begin in a tar that is not compressed; None: they are not there as they are.
        occurrence: how many members of that name come before it; the last of them is read.
        is_file: false for a link.
    """

    name: str
    size_bytes: int
    offset: int | None
    occurrence: int = 0
    is_file: bool = True


def is_archive(path: str) -> bool:
    """Whether a name is that of an archive."""
    return _ARCHIVE.search(path) is not None


def member_path(archive: str, member: str) -> str:
    """The name of a file in an archive."""
    return f"{archive}{_BORDER}{member}"


def split_member(path: str) -> tuple[str, str] | None:
    """Archive and member of such a name; None: it is none."""
    found = _MEMBER.search(path)
    return None if found is None else (path[: found.end() - len(_BORDER)], path[found.end() :])


def members_of(archive: str, open_raw: Opener) -> tuple[list[Member], Exception | None]:
    """The files in an archive, in its order, the last of each name; and what is wrong with the archive, if it breaks.

    Args:
        archive: its name.
        open_raw: opens files.
    """
    found: list[Member] = []
    problem: Exception | None = None
    try:
        with _naming(), open_raw(archive) as raw:
            for member in _zip_members(raw) if _is_zip(archive) else _tar_members(raw):
                found.append(member)
    except (EOFError, OSError) as error:
        problem = error
    last = {member.name: member for member in found}
    return [member for member in found if last[member.name] is member], problem


def open_member(path: str, version: str, member: Member, open_raw: Opener) -> BinaryIO:
    """The bytes of a file in an archive, as they are stored there.

    Args:
        path: its name.
        version: of the archive.
        member: what its listing says.
        open_raw: opens files.

    Raises:
        EOFError: if the archive breaks before it.
        OSError: if the archive is damaged.
    """
    archive = cast(tuple[str, str], split_member(path))[0]
    with _naming():
        stream: ByteStream
        if _is_zip(archive):
            stream = _Member(_opened(_Zip, archive, version, open_raw).member(member))
        elif member.offset is not None:
            raw = open_raw(archive)
            raw.seek(member.offset)
            stream = _Slice(raw, member.size_bytes)
        else:
            stream = _Member(_opened(_Cursor, archive, version, open_raw).member(member))
        return cast(BinaryIO, io.BufferedReader(stream, _BUFFER_BYTES))


class _Member(ByteStream):
    """A member that is unpacked while it is read; what it is read from stays open for the next."""

    def _next_piece(self) -> bytes | None:
        with _naming():
            return self._read(_BUFFER_BYTES) or None


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


class _Zip:
    """A zip that is being read."""

    def __init__(self, archive: str, open_raw: Opener) -> None:
        self._packed = zipfile.ZipFile(open_raw(archive))

    def member(self, member: Member) -> BinaryIO:
        infos = [info for info in self._packed.infolist() if _shown(info.filename) == member.name]
        return cast(BinaryIO, self._packed.open(infos[member.occurrence]))

    def close(self) -> None:
        raw = self._packed.fp
        self._packed.close()
        if raw is not None:
            raw.close()


class _Cursor:
    """A compressed tar that is being read, and the member that comes next."""

    def __init__(self, archive: str, open_raw: Opener) -> None:
        self._archive, self._open_raw = archive, open_raw
        self._begin()

    def _begin(self) -> None:
        self._passed: Counter[str] = Counter()
        self._raw = _tar_stream(self._open_raw(self._archive))[1]
        self._tar = _open_tar(self._raw, is_plain=False)

    def member(self, member: Member) -> BinaryIO:
        if self._passed[member.name] > member.occurrence:
            self.close()
            self._begin()
        while (info := self._tar.next()) is not None:
            name = _shown(info.name)
            self._passed[name] += 1
            if name == member.name and self._passed[name] > member.occurrence:
                return cast(BinaryIO, self._tar.extractfile(info))
            self._tar.members = []  # type: ignore[attr-defined]  # else it remembers all that it passed
        raise EOFError("a complete archive")

    def close(self) -> None:
        self._tar.close()
        self._raw.close()


_open: list[tuple[tuple[object, ...], _Zip | _Cursor]] = []


def _opened(make: Any, archive: str, version: str, open_raw: Opener) -> Any:
    # A process that was forked shares the place where a file is read with its parent: it opens its own.
    key = (archive, version, os.getpid())
    if not _open or _open[0][0] != key:
        while _open:
            _open.pop()[1].close()
        _open.append((key, make(archive, open_raw)))
    return _open[0][1]


def _is_zip(archive: str) -> bool:
    return ".zip" in cast(re.Match[str], _ARCHIVE.search(archive))[0].lower()


def _zip_members(raw: BinaryIO) -> Iterator[Member]:
    before: Counter[str] = Counter()
    with zipfile.ZipFile(raw) as packed:
        for info in packed.infolist():
            if not info.is_dir():
                name = _shown(info.filename)
                yield Member(name, info.file_size, None, before[name])
                before[name] += 1


def _tar_members(raw: BinaryIO) -> Iterator[Member]:
    before: Counter[str] = Counter()
    is_plain, stream = _tar_stream(raw)
    with stream, _open_tar(stream, is_plain) as tar:
        while (info := tar.next()) is not None:
            name = _shown(info.name)
            if info.isfile():
                offset = info.offset_data if is_plain and not info.issparse() else None
                yield Member(name, info.size, offset, before[name])
            elif info.issym() or info.islnk():
                yield Member(name, 0, None, before[name], is_file=False)
            before[name] += 1
            tar.members = []  # type: ignore[attr-defined]


class _StrictInfo(tarfile.TarInfo):
    """A member's header; the library takes one that is damaged or missing for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: Any) -> Any:
        """The next header."""
        try:
            found = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tar.has_ended = True  # an empty block; another archive may follow
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            if not tar.has_ended:
                raise EOFError("a complete archive") from None
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"a damaged header: {error}") from None
        tar.has_ended = False
        return found


class _StrictTar(tarfile.TarFile):
    tarinfo = _StrictInfo
    has_ended = False


def _open_tar(stream: BinaryIO, is_plain: bool) -> tarfile.TarFile:
    # With ignore_zeros, archives that were joined are read to the end of the last.
    return _StrictTar.open(fileobj=stream, mode="r:" if is_plain else "r|", ignore_zeros=True)


def _tar_stream(raw: Any) -> tuple[bool, BinaryIO]:
    """Whether a tar is not compressed, and its bytes."""
    compression = compression_shown(raw.peek(MAGIC_BYTES))
    if compression is None:
        return True, raw
    return False, cast(BinaryIO, io.BufferedReader(DecompressedStream(raw, compression), _BUFFER_BYTES))


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


@contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise EOFError("a complete archive") from None
    except _UNREADABLE as error:
        raise OSError(f"cannot be unpacked: {error}") from None
    except _BROKEN as error:
        if "unexpected end of data" in str(error):
            raise EOFError("a complete archive") from None
        raise OSError(f"is no whole archive: {str(error) or type(error).__name__}") from None
