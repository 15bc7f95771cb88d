"""Numbers that Slurm, or somebody by hand, puts into the environment."""

from __future__ import annotations

from collections.abc import Mapping

from configs.errors import ConfigError


def whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    """The number in the variable `name`; `default` where there is none.

    Raises:
        ConfigError: if it is no number, or is negative.
    """
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{text!r} is no number", where=name, expected="0 or more, as Slurm sets it")
    return int(text)
