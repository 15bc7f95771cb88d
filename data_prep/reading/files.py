"""Input files by path or by URL: what there is, how large it is, its bytes (decompressed).

Local files are opened directly. Whatever has a scheme (`s3://`, `https://`, `file://`, ...) goes through fsspec, whose
own settings (environment, `~/.config/fsspec`) hold credentials.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from configs.errors import DataError
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.zstd import ZstdStream

CHUNK_BYTES = 1 << 18  # small enough that a block stays in the cache until its lines are parsed
_OPENERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw, mode="rb"),
    ".zst": ZstdStream,
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
}
COMPRESSIONS = tuple(_OPENERS)


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


def compression_of(path: str) -> str | None:
    """The ending that tells how `path` is compressed; None: it is not."""
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if suffix in _OPENERS else None


def file_state(path: str) -> FileState:
    """Size and version of a file.

    Raises:
        DataError: if it is not there or cannot be read.
    """
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


def open_raw(path: str) -> BinaryIO:
    """The bytes of a file as they are stored.

    Raises:
        DataError: if it cannot be opened.
    """
    if not is_url(path):
        with _naming(path):
            return Path(path).open("rb", buffering=CHUNK_BYTES)
    with remote(path) as (system, inner):
        return cast(BinaryIO, system.open(inner, "rb"))


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed when its name says so.

    Raises:
        DataError: if it cannot be opened.
    """
    compression = compression_of(path)
    with open_raw(path) as raw:
        if compression is None:
            yield raw
            return
        with _OPENERS[compression](raw) as stream:
            yield stream


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what reading can raise in the block into one error about `path`.

    Raises:
        DamagedFileError: if the file breaks in the middle.
        DataError: if the system cannot read it.
    """
    try:
        yield
    except EOFError:
        expected = f"a complete {compression_of(path)} file"
        raise DamagedFileError("is truncated", where=path, expected=expected) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFileError(f"is not valid gzip: {error}", where=path) from None
    except lzma.LZMAError as error:
        raise DamagedFileError(f"is not valid xz: {error}", where=path) from None
    except OSError as error:
        if error.errno is None:  # the decompressors' own, such as bz2's "Invalid data stream"
            raise DamagedFileError(f"cannot be read: {error}", where=path) from None
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


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError("there is no such file", where=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
