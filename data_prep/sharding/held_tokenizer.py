"""The tokenizer that a process works with, loaded and shown to be right once: a large vocabulary takes seconds."""

from __future__ import annotations

from pathlib import Path

from data_prep.tokenizer import EngineName, Tokenizer, load_tokenizer

_held: dict[tuple[Path, EngineName], Tokenizer] = {}


def held_tokenizer(directory: Path, engine: EngineName) -> Tokenizer:
    """The one that is held for a directory, else the one that lies there, which is held from now on."""
    if (directory, engine) not in _held:
        hold_tokenizer(directory, load_tokenizer(directory, engine))
    return _held[directory, engine]


def hold_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Hold a tokenizer, whose copy lies in `directory`, in place of what was held before."""
    _held.clear()
    _held[directory, tokenizer.engine] = tokenizer


def let_tokenizer_go() -> None:
    """Hold nothing any longer."""
    _held.clear()
