"""Standard input, and pipes that have a name: what can be read only once is kept in a file while the command runs."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from configs.errors import DataError
from data_prep.reading.encodings import UTF_8
from data_prep.reading.kinds import kind_by_content

_NAME = "standard-input"
_ENDINGS = {"parquet": ".parquet", "arrow": ".arrow", "jsonl": ".jsonl", "html": ".html", "warc": ".warc"}


def may_be_read_once(path: str) -> bool:
    """Whether `path` is a pipe."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 (nothing is followed or opened)
    except (OSError, ValueError):
        return False


def is_read_once(pattern: str) -> bool:
    """Whether an input pattern means standard input or a pipe."""
    return pattern == "-" or may_be_read_once(pattern)


def is_kept_stream(path: str) -> bool:
    """Whether a file is what `kept_stream` made of standard input or of a pipe, in this process or another."""
    kept = Path(path)
    return kept.stem == _NAME and kept.parent.name.startswith(f"{_NAME}-")


@functools.cache
def kept_stream(name: str, encoding: str = UTF_8) -> str:
    """All of standard input (`-`) or of a pipe, in a file that is removed when the process ends.

    The file's ending says what its first bytes, in `encoding`, show; text that is nothing else is text.

    Raises:
        DataError: if nobody writes to it, or it ends without a byte.
    """
    if name == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise DataError("is a terminal", where="standard input", expected="a program that writes to it, or a file")
    shown = "standard input" if name == "-" else name
    folder = Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))
    atexit.register(_remove, folder, os.getpid())
    kept = folder / _NAME
    print(f"reading {shown} to its end into {kept} (TMPDIR names the place)", file=sys.stderr, flush=True)
    try:
        with kept.open("wb") as sink:
            if name == "-":
                shutil.copyfileobj(sys.stdin.buffer, sink, 1 << 20)
            else:
                with Path(name).open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except OSError as error:
        raise DataError(f"cannot be kept: {error.strerror}", where=shown, expected="room in TMPDIR") from None
    if not kept.stat().st_size:
        raise DataError("is empty", where=shown, expected="at least one document")
    kind = kind_by_content(str(kept), may_be_text=True, encoding=encoding)
    return str(kept.rename(kept.with_name(f"{_NAME}{_ENDINGS.get(kind or '', '.txt')}")))


def _remove(folder: Path, owner: int) -> None:
    # Processes that work for the command inherit what is registered.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
