"""Outputs that appear whole or not at all: write under another name, flush to disk, rename."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import DataError, MachineError, UserError


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    Raises:
        MachineError: if the file or its directory cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush_to_disk(temporary)
            temporary.replace(path)
            flush_to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def staged_directory(path: Path, marker: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty temporary directory beside `path`; rename it to `path` when the block ends without an error.

    Args:
        path: where the directory is to be; its parents are made.
        marker: the file that tells a directory of this kind, so that nothing else is ever replaced.
        overwrite: replace an existing directory of this kind.

    Raises:
        DataError: if `path` exists and may not be replaced.
        MachineError: if the directory cannot be written.
    """
    check_replaceable(path, marker, overwrite)
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    with writing(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                flush_to_disk(file)
            flush_to_disk(temporary)
            _swap_in(temporary, path)
            flush_to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: Path, marker: str, overwrite: bool) -> None:
    """Refuse, before any work is done, an output directory that holds something.

    Raises:
        DataError: if `path` is not a directory, holds other things, or `overwrite` is not given.
    """
    with writing(path):
        if not path.exists() and not path.is_symlink():
            return
        if not path.is_dir():
            raise DataError("exists and is not a directory", where=path, expected="the path of a new directory")
        if not any(path.iterdir()):
            return
    if not (path / marker).is_file():
        raise DataError(f"exists and holds other things (no {marker})", where=path, expected="a new directory")
    if not overwrite:
        raise DataError("exists already", where=path, expected="a new directory, or --overwrite to replace this one")


def _swap_in(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    # A reader sees the old directory, for an instant nothing, then the new one; never a mixture.
    replaced = path.with_name(f".{path.name}.old-{secrets.token_hex(4)}")
    path.rename(replaced)
    temporary.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error in the block (full disk, no permission) into one message about `path`.

    Raises:
        MachineError: in place of any `OSError`.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise MachineError(f"cannot be written: {error.strerror or error}", where=error.filename or path) from error


def flush_to_disk(path: Path) -> None:
    """Make the contents of a file, or the entries of a directory, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
