"""Input files by path or by URL: what there is, how large it is, its bytes (decompressed).

Local files are opened directly. Whatever has a scheme (`s3://`, `https://`, `file://`, ...) goes through fsspec, whose
own settings (environment, `~/.config/fsspec`) hold credentials.
"""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from configs.errors import DataError, printable
from data_prep.config import SourceConfig
from data_prep.reading.archives import Member, members_of, open_member, split_member
from data_prep.reading.decompression import (
    COMPRESSIONS,
    MAGIC_BYTES,
    MAX_WINDOW_BYTES,
    DecompressedStream,
    compression_shown,
    content_shown,
)
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.encodings import UTF_8, Utf8Stream, valid_bytes
from data_prep.reading.guessing import guess_encoding, said_guess

CHUNK_BYTES = 1 << 18  # small enough that a block stays in the cache until its lines are parsed
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class FileState:
    """How a change of a file is noticed.

    Attributes:
        size_bytes: its size.
        version: its time of change in ns, or what the remote file system has in place of that.
    """

    size_bytes: int
    version: str


def is_url(path: str) -> bool:
    """Whether `path` has a scheme."""
    return "://" in path


def archive_members(path: str, may_break: bool = False) -> list[Member]:
    """The files in an archive.

    Args:
        path: the archive.
        may_break: give the files before the place where it breaks, which is said on standard error.

    Raises:
        DamagedFileError: if it is none, or damaged.
        DataError: if it cannot be opened.
    """
    members, problem = _listing(path, file_state(path).version)
    if problem is not None:
        try:
            with reading(path):
                raise problem
        except DamagedFileError as error:
            if not may_break:
                raise
            print(printable(f"damaged, read to where it breaks: {path}: {error.problem}"), file=sys.stderr, flush=True)
    return members


@functools.lru_cache(maxsize=4)
def _listing(archive: str, version: str) -> tuple[list[Member], Exception | None]:
    _listed_versions[archive] = version
    return members_of(archive, open_raw)


_listed_versions: dict[str, str] = {}


@functools.lru_cache(maxsize=4)
def _members_by_name(archive: str, version: str) -> dict[str, Member]:
    return {member.name: member for member in _listing(archive, version)[0]}


def compression_of(path: str) -> str | None:
    """The ending that tells how `path` is compressed; None: it is not."""
    for name in (path, re.split(r"[?#]", path, maxsplit=1)[0]):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in COMPRESSIONS:
            return suffix
    return None


def is_local_file(path: str) -> bool:
    """Whether `path` is a file of this machine, and not a part of one."""
    return not is_url(path) and split_member(path) is None


def file_state(path: str) -> FileState:
    """Size and version of a file.

    Raises:
        DataError: if it is not there or cannot be read.
    """
    if (member := split_member(path)) is not None:
        version = file_state(member[0]).version
        return FileState(_member(path, version).size_bytes, version)
    if not is_url(path):
        with _naming(path):
            found = Path(path).stat()
            Path(path).open("rb").close()
            return FileState(found.st_size, str(found.st_mtime_ns))
    with remote(path) as (system, inner):
        info = system.info(inner)
        size = info.get("size")
        if size is None:
            raise DataError("its server does not tell its size", where=path, expected="a file of known size")
        version = next(
            (str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "updated") if info.get(key)), ""
        )
        return FileState(int(size), version)


def forget_remote_states(path: str) -> None:
    """Have a remote file system ask anew about the files beside `path`."""
    archive = split_member(path)
    outer = path if archive is None else archive[0]
    if is_url(outer):
        with remote(outer) as (system, inner):
            system.invalidate_cache(inner.rpartition("/")[0])


def open_raw(path: str) -> BinaryIO:
    """The bytes of a file as they are stored.

    Raises:
        DataError: if it cannot be opened.
        DamagedFileError: if it is in a damaged archive.
    """
    if (member := split_member(path)) is not None:
        # Whoever reads it compares the archive's state afterwards; it need not be asked for each member.
        version = _listed_versions.get(member[0]) or file_state(member[0]).version
        with reading(path):
            return open_member(path, version, _member(path, version), open_raw)
    if not is_url(path):
        with _naming(path):
            return Path(path).open("rb", buffering=CHUNK_BYTES)
    with remote(path) as (system, inner):
        found = system.open(inner, "rb")
        return cast(BinaryIO, found if hasattr(found, "peek") else io.BufferedReader(found, CHUNK_BYTES))


@contextmanager
def open_stream(path: str, config: SourceConfig | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file: decompressed, and of another encoding than UTF-8 made UTF-8; there is no seeking in those.

    How a file is compressed is told by its first bytes, whatever it is named.

    Args:
        path: the file or URL.
        config: names the encoding; None: the bytes are given as they are, once decompressed.

    Raises:
        DataError: if it cannot be opened.
    """
    with open_raw(path) as raw:
        with reading(path):
            compression = _compression(raw, path)
        stream = raw
        if compression is not None:
            limit = MAX_WINDOW_BYTES if config is None else config.max_window_bytes
            stream = cast(BinaryIO, DecompressedStream(stream, compression, limit))
        if config is not None and config.encoding != UTF_8:
            stream = cast(BinaryIO, Utf8Stream(stream, config.encoding))
        with stream:
            yield stream


def is_compressed(path: str) -> bool:
    """Whether a file is compressed, by its first bytes or by its name.

    Raises:
        DataError: if it cannot be opened.
    """
    with open_raw(path) as raw, reading(path):
        return _compression(raw, path) is not None


@functools.lru_cache(maxsize=64)
def said_content(path: str, encoding: str) -> str | None:
    """What a file that is not in the encoding that it is read in looks like, for messages; None: unknown."""
    with open_stream(path) as stream, reading(path):
        sample = stream.read(_SAMPLE_BYTES)
    shown = content_shown(sample[:MAGIC_BYTES])
    if shown is not None:
        return f"looks like {shown}"
    if encoding != UTF_8 and valid_bytes(sample) > len(sample) - 4:
        return "looks like UTF-8: encoding=utf-8 reads it"
    return None if guess_encoding(sample) == encoding else said_guess(sample)


def _compression(raw: Any, path: str) -> str | None:
    ending = compression_of(path)
    return compression_shown(raw.peek(MAGIC_BYTES)) or (ending and COMPRESSIONS[ending])


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what reading can raise in the block into one error about `path`.

    Raises:
        DamagedFileError: if the file breaks in the middle.
        DataError: if the system cannot read it.
    """
    try:
        yield
    except EOFError as error:
        expected = str(error) or f"a complete {compression_of(path) or 'compressed'} file"
        raise DamagedFileError("is truncated", where=path, expected=expected) from None
    except OSError as error:
        if error.errno is None:  # the decompressors' own
            raise DamagedFileError(str(error), where=path) from None
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from None


@contextmanager
def remote(url: str) -> Iterator[tuple[Any, str]]:
    """The fsspec file system of `url` and the path within it; its errors become one about `url`.

    Raises:
        DataError: if the scheme is unknown, its package is missing, or the file system fails.
    """
    from fsspec.core import url_to_fs

    try:
        yield url_to_fs(url)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"needs a package that is not installed: {error}", where=url) from None
    except FileNotFoundError:
        raise DataError("there is no such file", where=url) from None
    except ValueError as error:
        raise DataError(
            f"cannot be opened: {error}", where=url, expected="a path, or a URL that fsspec knows"
        ) from None
    except Exception as error:  # what a remote file system's library raises is not ours to list
        raise DataError(f"cannot be read: {type(error).__name__}: {error}", where=url) from None


def _member(path: str, version: str) -> Member:
    archive, name = cast(tuple[str, str], split_member(path))
    found = _members_by_name(archive, version).get(name)
    if found is None:
        raise DataError("there is no such file", where=path, expected="a file of the archive")
    return found


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError("there is no such file", where=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
