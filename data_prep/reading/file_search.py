"""Looking for local files so that none is passed over without a word."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from configs.errors import DataError, printable
from data_prep.reading.kinds import kind_by_name


def files_below(
    directory: str, is_known: Callable[[str], bool], left_out: Sequence[Path] = ()
) -> tuple[list[str], list[str]]:
    """The files in a directory and those below it, in the order of their names; no hidden files.

    Corpora below it, finished or not, are no text: they are passed over, and this is said on standard error.

    Args:
        directory: where to look.
        is_known: tells by its path whether a file is of a known kind.
        left_out: files and directories that are not looked at, such as the output of the command.

    Returns:
        the files of known kinds, and the others.

    Raises:
        DataError: if a directory cannot be read, or a file of a known kind is a link that leads nowhere.
    """
    own = _resolved(left_out)
    found: list[Path] = []
    others: list[Path] = []
    linked: list[Path] = []
    made: list[Path] = []
    for folder, inner, names in os.walk(directory, onerror=_refuse):
        linked += [path for path in (Path(folder, name) for name in inner) if path.is_symlink()]
        inner[:] = [name for name in inner if not _is_one_of(Path(folder, name), own)]
        if folder != directory and _is_corpus(Path(folder), names):
            made.append(Path(folder))
            inner.clear()
            continue
        for path in (Path(folder, name) for name in names):
            if path.name.startswith(".") or _is_one_of(path, own):
                continue
            if kind_by_name(str(path)) is not None:
                check_link(path)
            if path.is_file():
                (found if is_known(str(path)) else others).append(path)
    # Links may lead anywhere, also back.
    _say("not followed", sorted(linked), "a link to a directory; name it to read it")
    _say("not read", sorted(made), "a corpus or the beginnings of one")
    return [str(path) for path in sorted(found)], [str(path) for path in sorted(others)]


def files_of_pattern(pattern: str, left_out: Sequence[Path] = ()) -> list[str]:
    """The files that a pattern means, of known kinds or not, in the order of their names; see `files_below`.

    Raises:
        DataError: if a directory that it leads through cannot be read, or a link of a known kind leads nowhere.
    """
    check_pattern(pattern)
    # Whoever names what is left out, or something in it, wants it.
    named = os.path.realpath(_directory_named(pattern))
    own = frozenset(path for path in _resolved(left_out) if not Path(named).is_relative_to(path))
    found = []
    for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 (the pattern may be absolute)
        path = Path(name)
        if kind_by_name(name) is not None:
            check_link(path)
        if path.is_file() and not any(_is_one_of(part, own) for part in (path, *path.parents)):
            found.append(name)
    return found


def check_pattern(pattern: str) -> None:
    """See that all directories that a pattern leads through can be read: looking for matches passes over the others.

    Raises:
        DataError: if one cannot.
    """
    parts = Path(pattern).parts
    for length, part in enumerate(parts):
        if not glob.has_magic(part):
            continue
        above = Path(*parts[:length])
        # `**` stands for all directories below the one that it is in.
        for reached in (above, above / part) if part == "**" else (above,):
            for folder in glob.glob(str(reached), recursive=True):  # noqa: PTH207
                if Path(folder).is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                    _refuse(PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder))


def _is_corpus(folder: Path, names: list[str]) -> bool:
    # Shards alone do not tell: Megatron's tools put theirs beside the text.
    return folder.suffix == ".partial" or ("manifest.json" in names and any(name.endswith(".idx") for name in names))


def _say(what: str, paths: list[Path], why: str) -> None:
    if paths:
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        print(printable(f"{what}: {paths[0]}{more}, {why}"), file=sys.stderr, flush=True)


def _directory_named(pattern: str) -> Path:
    parts = Path(pattern).parts
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def check_link(path: Path) -> None:
    """See that a path is no link that leads nowhere.

    Raises:
        DataError: if it is.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(f"is a link to {path.readlink()}, which is not there", where=path, expected="a file")


def _refuse(error: OSError) -> NoReturn:
    expected = "a directory that can be listed, or other input"
    raise DataError(f"cannot be read: {error.strerror}", where=error.filename, expected=expected) from None


def _resolved(paths: Sequence[Path]) -> frozenset[str]:
    return frozenset(os.path.realpath(path) for path in paths)


def _is_one_of(path: Path, resolved: frozenset[str]) -> bool:
    return bool(resolved) and os.path.realpath(path) in resolved
