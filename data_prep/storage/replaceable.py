"""Which directories an output may replace: those that our commands made, with nothing else in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

import orjson

from configs.errors import DataError
from data_prep.storage.durable import writing


@dataclass(frozen=True)
class DirectoryKind:
    """What a directory that one of our commands made is told by, besides the name of its marker.

    Attributes:
        keys: of its marker, a JSON object.
        entries: patterns of all that the commands put into it, besides the marker.
        or_else: a file, and its keys, that tells it where the marker is lost or damaged.
    """

    keys: tuple[str, ...]
    entries: tuple[str, ...]
    or_else: tuple[str, tuple[str, ...]] | None = None


TRANSFORMERS_FILES = (
    *("config.json", "generation_config.json", "model.safetensors", "model-*-of-*.safetensors"),
    *("model.safetensors.index.json", "sentencepiece", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "additional_chat_templates"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
"""What the directory of a transformers model may hold."""
_KINDS = {
    "manifest.json": DirectoryKind(
        ("format_version", "created_by", "tokenizer_fingerprint", "shards"),
        (
            *("shard_*.bin", "shard_*.idx", "shard_*.meta.jsonl", "token_counts.npy", "tokenizer", "plan.json"),
            *("ngram.json", "finished", ".lock"),
        ),
        ("plan.json", ("version", "recipe", "tokenizer", "engine", "files", "shards")),
    ),
    "tokenizer.json": DirectoryKind(
        ("algorithm", "roles", "sentinels", "fingerprint"),
        ("tokenizer.model", "vocabulary.json", "vocabulary.tiktoken", "recipe.json"),
    ),
    "export.json": DirectoryKind(("checkpoint", "architecture", "logits"), ("README.md", *TRANSFORMERS_FILES)),
}
# What a network file system leaves of an open file that is removed, and we of one that was being written at a kill.
_LEFTOVERS = (".nfs*", ".*.tmp-*")


def real_output(path: Path) -> Path:
    """The directory that an output is: where a link leads to, and what `.` or `..` stand for.

    Raises:
        DataError: if it is the root of the file system, beside which nothing can be.
        MachineError: if it cannot be looked at.
    """
    with writing(path):
        if path.name not in ("", "..") and not path.is_symlink():
            return path
        real = Path(os.path.realpath(path))
    if not real.name:
        raise DataError("is the root of the file system", where=path, expected="the path of a new directory")
    return real


def check_replaceable(
    path: Path, marker: str, overwrite: bool, inputs: Iterable[str | Path] = (), kind: DirectoryKind | None = None
) -> None:
    """Refuse, before any work is done, an output directory that holds something.

    Args:
        path: the directory.
        marker: the file that tells a directory of this kind.
        overwrite: whether one of this kind, in which there is nothing else, is to be replaced.
        inputs: files, directories and patterns that are read: a directory with one of them is never replaced.
        kind: what else tells it; None: what is known of directories with this marker.

    Raises:
        DataError: if `path` is not a directory, holds other things, or `overwrite` is not given.
    """
    path = real_output(path)
    with writing(path):
        if not path.exists() and not path.is_symlink():
            return
        if not path.is_dir():
            raise DataError("exists and is not a directory", where=path, expected="the path of a new directory")
        if not any(path.iterdir()):
            return
        _refuse_inputs(path, inputs)
        known = kind or _KINDS.get(marker)
        kind = known or DirectoryKind((), ("*",))
        if kind.or_else is None or not _has_keys(path / kind.or_else[0], kind.or_else[1]):
            there = (path / marker).is_file()
            if not there or (known and not _has_keys(path / marker, kind.keys)):
                how = f"another {marker}" if there else f"no {marker}"
                raise DataError(f"exists and holds other things ({how})", where=path, expected="a new directory")
        name = foreign_entry(path, (marker, *kind.entries))
        if name is not None:
            raise DataError(
                f"exists and holds other things: {name}",
                where=path,
                expected="a new directory, or this one without them",
            )
    if not overwrite:
        raise DataError("exists already", where=path, expected="a new directory, or --overwrite to replace this one")


def _refuse_inputs(path: Path, inputs: Iterable[str | Path]) -> None:
    output = os.path.realpath(path)
    for given in inputs:
        place = Path(given)
        if not place.exists():  # a pattern: what comes before its first star
            place = Path(*takewhile(lambda part: not glob.has_magic(part), place.parts))
        real = os.path.realpath(place)
        if real == output or real.startswith(output + os.sep):
            raise DataError(
                f"exists and holds other things: the input {given}",
                where=path,
                expected="an output outside of what is read",
            )


def _has_keys(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, orjson.JSONDecodeError):
        return False
    return isinstance(content, dict) and all(key in content for key in keys)


def foreign_entry(directory: Path, patterns: Iterable[str]) -> str | None:
    """The first entry of a directory that no pattern allows; None: there is none."""
    allowed = (*patterns, *_LEFTOVERS)
    names = sorted(entry.name for entry in directory.iterdir())
    return next((name for name in names if not any(fnmatchcase(name, each) for each in allowed)), None)
