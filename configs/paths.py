"""What a path says that a user gives: `~` and variables expanded at this one place, URLs refused where none can be.

Configs use the types `InputPath` and `OutputPath`, commands the parsers `input_path` and `output_path`.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from configs.errors import ConfigError, nearest

_Read = TypeVar("_Read")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
# Two letters at least; of `s3://bucket`, a `Path` leaves `s3:/bucket`.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(:{1,2}[A-Za-z0-9+.-]+)*:/+", re.ASCII)


def expanded(text: str) -> str:
    """A path, pattern or URL with `~`, `$NAME` and `${NAME}` at their values.

    A `$` that begins no variable's name stays, and so does what is there under the name as it is written.

    Raises:
        ValueError: for a variable that is not set, or the home of a user whom there is not; names the nearest variable.
    """
    for found in _VARIABLE.finditer(text):
        name = found[1] or found[2]
        if name in os.environ:
            continue
        if _URL.match(text) or os.path.lexists(text) or next(glob.iglob(text), None):  # noqa: PTH207 (may be absolute)
            return text
        close = nearest(name, os.environ)
        raise ValueError(f"the variable ${name} is not set" + (f"; did you mean ${close}?" if close else ""))
    text = _VARIABLE.sub(lambda found: os.environ[found[1] or found[2]], text)
    home = os.path.expanduser(text)  # noqa: PTH111 (a pattern or URL is no path)
    if home == text and text.startswith("~") and not os.path.lexists(text):
        user = text.partition("/")[0]
        raise ValueError(f"there is no user {user[1:]!r} whose home {user} is; ./{user} is a file of that name")
    return home


def _local(text: str, refusal: str) -> Path:
    text = expanded(text)
    if (url := _URL.match(text)) and not Path(text).exists():
        if url[1].lower() == "file" and not url[2]:
            return Path("/" + text[url.end() :])
        raise ValueError(refusal)
    return Path(text)


def _local_output(text: str) -> Path:
    return _local(
        text,
        "is a URL, and outputs are written to local paths, so that a kill leaves nothing half-written; expected a local"
        " path, copied to there when it is finished, or a directory where that storage is mounted",
    )


def _local_input(text: str) -> Path:
    return _local(
        text,
        "is a URL, and this is read from local paths; expected a local copy, or a directory where that storage is"
        " mounted",
    )


def _validator(read: Callable[[str], Path]) -> Callable[[Any], Any]:
    # As text: pydantic takes no path for one in JSON.
    return lambda value: str(read(str(value))) if isinstance(value, str | Path) else value


InputPath = Annotated[Path, BeforeValidator(_validator(_local_input), json_schema_input_type=Path)]
"""A local file or directory that is read."""
OutputPath = Annotated[Path, BeforeValidator(_validator(_local_output), json_schema_input_type=Path)]
"""A local file or directory that is written."""


def input_path(text: str) -> Path:
    """The local path that an option of a command says, of something that is read.

    Raises:
        ConfigError: see `expanded`; or it is a URL.
    """
    return _option(_local_input, text)


def input_pattern(text: str) -> str:
    """The file, pattern or URL that an option of a command says, of something that is read.

    Raises:
        ConfigError: see `expanded`.
    """
    return _option(expanded, text)


def output_path(text: str) -> Path:
    """The local path that an option of a command says, of something that is written.

    Raises:
        ConfigError: see `expanded`; or it is a URL.
    """
    return _option(_local_output, text)


def _option(read: Callable[[str], _Read], text: str) -> _Read:
    try:
        return read(str(text))
    except ValueError as error:
        raise ConfigError(str(error), where=text) from None
