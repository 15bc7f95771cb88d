"""Outputs that appear whole or not at all: written under another name, flushed to disk, renamed."""

from __future__ import annotations

import ctypes
import glob
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_prep.storage.durable import flush_to_disk, writing
from data_prep.storage.locks import locked_directory
from data_prep.storage.replaceable import DirectoryKind, check_replaceable, real_output

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def staged_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    Args:
        path: the file; its directory is made.
        durable: whether it also has to survive a power failure.

    Raises:
        MachineError: if the file or its directory cannot be written.
    """
    with writing(path), _replacing(path, durable) as temporary:
        yield temporary


def write_whole(path: Path, data: bytes, durable: bool = True) -> None:
    """Make a file hold `data`; a reader, also after a crash, finds the old one or the new one.

    Raises:
        OSError: what the file system says.
    """
    with _replacing(path, durable) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _replacing(path: Path, durable: bool) -> Iterator[Path]:
    temporary = _beside(path, "tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if durable:
            flush_to_disk(temporary)
        temporary.replace(path)
        if durable:
            flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged_directory(
    path: Path, marker: str, overwrite: bool, inputs: Iterable[str | Path] = (), kind: DirectoryKind | None = None
) -> Iterator[Path]:
    """Yield an empty temporary directory beside `path`; rename it to `path` when the block ends without an error.

    One that is replaced is there until that moment, where the file system can exchange two names (Linux, local). What
    an earlier process left that was killed in the block is removed.

    Args:
        path: where the directory is to be, a link followed; its parents are made.
        marker: the file that tells a directory of this kind, so that nothing else is ever replaced.
        overwrite: replace an existing directory of this kind.
        inputs: what is read, which must not be in it.
        kind: as in `check_replaceable`.

    Raises:
        DataError: if `path` exists and may not be replaced.
        MachineError: if the directory cannot be written.
    """
    path = real_output(path)
    check_replaceable(path, marker, overwrite, inputs, kind)
    temporary = _beside(path, "tmp")
    with writing(path), ExitStack() as held:
        for left in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
            with locked_directory(left) as abandoned:
                if abandoned:
                    shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        held.enter_context(locked_directory(temporary))
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                flush_to_disk(file)
            flush_to_disk(temporary)
            if path.exists() and _exchange(temporary, path):
                flush_to_disk(path.parent)
            else:
                publish_directory(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Give two directories each other's name in one step; whether the file system and the C library can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    here = ctypes.c_int(_AT_FDCWD)
    return rename(here, os.fsencode(one), here, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0


def publish_directory(made: Path, path: Path, aside: Path | None = None) -> None:
    """Give a directory whose files are on the disk its name, for good.

    A reader sees the old directory, for an instant nothing, then the new one; never a mixture.

    Args:
        made: the directory, on the same file system.
        path: its name from now on.
        aside: the new name of the directory that has that name; None: it is removed.

    Raises:
        OSError: what the file system says; the old directory then has its name still.
    """
    flush_to_disk(made)
    replaced = aside or _beside(path, "old")
    there = path.exists()
    if there:
        path.rename(replaced)
    try:
        made.rename(path)
    except OSError:
        if there:
            replaced.rename(path)
        raise
    flush_to_disk(path.parent)
    if there and aside is None:
        shutil.rmtree(replaced, ignore_errors=True)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}-{secrets.token_hex(4)}")
