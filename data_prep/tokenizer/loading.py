"""Which kind of tokenizer lies at a path, and reading it."""

from __future__ import annotations

from pathlib import Path

from configs.errors import ConfigError, DataError, nearest, nearest_path
from data_prep.tokenizer.byte_level_files import MERGES_FILE
from data_prep.tokenizer.byte_level_files import VOCABULARY_FILE as BYTE_LEVEL_FILE
from data_prep.tokenizer.engines import EngineName
from data_prep.tokenizer.huggingface_kind import HuggingFaceTokenizer
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.roles import (
    ROLES_FILE,
    VOCABULARY_FILES,
    Description,
    is_huggingface,
    read_description,
    read_json,
)
from data_prep.tokenizer.sentencepiece_kind import SentencePieceTokenizer
from data_prep.tokenizer.tiktoken_kind import TiktokenTokenizer
from data_prep.tokenizer.wordpiece import VOCABULARY_FILE as WORDPIECE_FILE

_EXPECTED = (
    "a tokenizer directory, a SentencePiece .model, a tokenizer.json, vocab.json with merges.txt, a WordPiece vocab.txt"
    " or a .tiktoken file"
)
_KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (SentencePieceTokenizer, HuggingFaceTokenizer, TiktokenTokenizer)
}


def load_tokenizer(path: Path | str, engine: EngineName = "auto") -> Tokenizer:
    """Read a tokenizer of any kind.

    Args:
        path: a tokenizer directory, or a bare vocabulary: a SentencePiece `.model`, a `tokenizer.json` of Hugging
            Face or the directory with it, a `.tiktoken` file. The roles of a bare one are those that it, or the
            files beside it, name; a WordPiece `vocab.txt` or a directory with `vocab.json` and `merges.txt`.
        engine: `auto` gives the ids of the vocabulary's own library in the fastest way that is shown to give them;
            `reference` is that library alone.

    Raises:
        DataError: if there is none, or it is damaged.
        MachineError: if a library that it needs is not installed.
    """
    if engine not in ("auto", "reference"):
        raise ConfigError(
            f"there is no engine {engine!r}",
            where="engine",
            expected="auto or reference",
            nearest=nearest(engine, ("auto", "reference")),
        )
    kind, model_path, description = _locate(Path(path))
    tokenizer = _KINDS[kind].read(model_path, description, engine)
    if description is not None and description.fingerprint != tokenizer.fingerprint:
        raise DataError(
            f"has the fingerprint {tokenizer.fingerprint}: vocabulary and roles do not belong together",
            where=path,
            expected=f"{description.fingerprint}, as {ROLES_FILE} says",
        )
    return tokenizer


def is_tokenizer(directory: Path) -> bool:
    """Whether `directory` is a tokenizer directory of ours, damaged or not."""
    return (directory / ROLES_FILE).is_file() and any((directory / name).is_file() for name in _VOCABULARIES)


_VOCABULARIES = tuple(VOCABULARY_FILES.values())


def _locate(path: Path) -> tuple[str, Path, Description | None]:
    """Kind, vocabulary file and what our roles file says, if there is one."""
    if path.is_dir():
        if not (path / ROLES_FILE).is_file():
            if (path / MERGES_FILE).is_file() and (path / BYTE_LEVEL_FILE).is_file():
                return "huggingface", path / MERGES_FILE, None
            if (path / WORDPIECE_FILE).is_file():
                return "huggingface", path / WORDPIECE_FILE, None
            models = sorted(path.glob("*.model"))
            if len(models) == 1:
                return "sentencepiece", models[0], None
        foreign = sorted(path.glob("*.model")) + sorted(path.glob("*.tiktoken"))
        if not (path / ROLES_FILE).is_file() and foreign:
            raise DataError(
                "there is no such tokenizer file", where=path / ROLES_FILE, expected=_EXPECTED, nearest=str(foreign[0])
            )
        description = read_description(path / ROLES_FILE)
        if description is None:
            return "huggingface", path / ROLES_FILE, None
        return description.kind, path / VOCABULARY_FILES[description.kind], description
    if not path.exists():
        raise DataError("there is no such tokenizer file", where=path, expected=_EXPECTED, nearest=nearest_path(path))
    if path.suffix == ".tiktoken":
        return "tiktoken", path, None
    if path.suffix == ".json" and not (path.name == BYTE_LEVEL_FILE and (path.parent / MERGES_FILE).is_file()):
        if is_huggingface(read_json(path, _EXPECTED)):
            return "huggingface", path, None
        if path.name == ROLES_FILE:
            return _locate(path.parent)
        raise DataError("is not a file of the tokenizers library", where=path, expected=_EXPECTED)
    if path.name in (BYTE_LEVEL_FILE, MERGES_FILE) and (path.parent / MERGES_FILE).is_file():
        return "huggingface", path.parent / MERGES_FILE, None
    if path.suffix == ".txt":
        return "huggingface", path, None
    return "sentencepiece", path, None
