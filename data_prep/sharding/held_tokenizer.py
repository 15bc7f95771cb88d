"""The tokenizer that a process works with, loaded and shown to be right once: a large vocabulary takes seconds."""

from __future__ import annotations

from pathlib import Path

from data_prep.tokenizer import EngineName, Tokenizer, load_tokenizer
from data_prep.tokenizer.light import light_tokenizer

_held: dict[tuple[Path, EngineName], Tokenizer] = {}


def held_tokenizer(directory: Path, engine: EngineName, kept: Path | None = None) -> Tokenizer:
    """The one that is held for a directory, else the one that lies there, which is held from now on.

    Args:
        directory: of the tokenizer.
        engine: who makes the ids.
        kept: where the process that planned the work keeps what it showed of the tokenizer, if it does.
    """
    if (directory, engine) not in _held:
        light = light_tokenizer(directory, kept) if kept is not None and engine == "auto" else None
        hold_tokenizer(directory, light or load_tokenizer(directory, engine))
    return _held[directory, engine]


def hold_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Hold a tokenizer, whose copy lies in `directory`, in place of what was held before."""
    _held.clear()
    _held[directory, tokenizer.engine] = tokenizer


def let_tokenizer_go() -> None:
    """Hold nothing any longer."""
    _held.clear()
