"""The one family of errors that a user can cause, and how an entry point reports them.

Everything in this family is printed as one message without a traceback and ends the process with
a documented, non-zero status. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import NoReturn


class ExitStatus(IntEnum):
    """What the exit status of every entry point means (see `docs/monitoring.md`)."""

    OK = 0
    BUG = 1
    USER_ERROR = 2
    DIVERGED = 3
    """Training stopped itself: too many non-finite steps in a row."""
    INTERRUPTED = 75
    """A signal asked for a stop; the state was saved and the same command continues (EX_TEMPFAIL)."""


# What moves the cursor of a terminal or changes how it writes; line feeds divide the lines of a message.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """A text for a message: control characters, which names and values from files may hold, as escapes."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class UserError(Exception):
    """Something a user can mend: a config, an input file, a machine that is full.

    Args:
        problem: one sentence that says what is wrong, naming the value found.
        where: the config key, file or address that it is about.
        expected: what would have been right.
        nearest: the nearest valid choice, if there is one.
        status: the exit status that the entry point ends with.
    """

    status: ExitStatus = ExitStatus.USER_ERROR

    def __init__(
        self,
        problem: str,
        *,
        where: object | None = None,
        expected: str | None = None,
        nearest: str | None = None,
        status: ExitStatus | None = None,
    ) -> None:
        self.problem = printable(problem)
        self.where = where
        self.expected = None if expected is None else printable(expected)
        self.nearest = None if nearest is None else printable(nearest)
        if status is not None:
            self.status = status
        super().__init__(self.render())

    def render(self) -> str:
        """The message as it is printed, several lines at most."""
        where = None if self.where is None else printable(str(self.where))
        lines = [f"{where}: {self.problem}" if where is not None else self.problem]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.nearest is not None:
            lines.append(f"  did you mean: {self.nearest}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Callable[..., UserError], tuple[object, ...]]:
        # Crosses process boundaries (worker pools) without losing its parts.
        return _rebuild, (type(self), self.problem, self.where, self.expected, self.nearest, self.status)


def _rebuild(
    cls: type[UserError],
    problem: str,
    where: object | None,
    expected: str | None,
    nearest: str | None,
    status: ExitStatus,
) -> UserError:
    return cls(problem, where=where, expected=expected, nearest=nearest, status=status)


class ConfigError(UserError):
    """A configuration that cannot be used."""


class DataError(UserError):
    """An input, corpus or tokenizer that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written or used."""


class MachineError(UserError):
    """A machine that cannot do what was asked (full disk, port in use, missing program)."""


def nearest(found: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice most similar to `found`, or None when nothing is similar."""
    matches = difflib.get_close_matches(found, list(choices), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def nearest_path(path: Path) -> str | None:
    """The entry of a path's directory whose name is most like its own; None: there is none, or it cannot be listed."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return None
    name = nearest(path.name, names)
    return str(path.with_name(name)) if name else None


def report(error: UserError) -> None:
    """Print `error` to standard error, as one message."""
    text = f"error: {error.render()}"
    print(text, file=sys.stderr, flush=True)
    _tell_torchrun(text)


def report_and_exit(error: UserError) -> NoReturn:
    """Print `error` to standard error, as one message, and end the process with its status."""
    report(error)
    raise SystemExit(int(error.status))


def _tell_torchrun(text: str) -> None:
    """Let torchrun's report, which comes after our message and hides it, end with that message.

    The file and its form are those of `torch.distributed.elastic`, whose `record` would import torch for it.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None:
        return
    told = {"message": {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}}
    with contextlib.suppress(OSError):
        # In one step: torchrun may end this process at any moment, and fails itself where the file is cut.
        whole = Path(f"{path}.{os.getpid()}")
        whole.write_text(json.dumps(told), encoding="utf-8")
        whole.replace(path)


def guarded(entry: Callable[[], object]) -> None:
    """Run an entry point so that a `UserError` ends it with one message and a status, not a traceback."""
    try:
        entry()
    except UserError as error:
        report_and_exit(error)
