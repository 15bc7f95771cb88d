"""Which kind of tokenizer lies at a path, and reading it."""

from __future__ import annotations

from pathlib import Path

from configs.errors import ConfigError, DataError, nearest
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

_EXPECTED = "a tokenizer directory, a SentencePiece .model, a tokenizer.json or a .tiktoken file"
_KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (SentencePieceTokenizer, HuggingFaceTokenizer, TiktokenTokenizer)
}


def load_tokenizer(path: Path | str, engine: EngineName = "reference") -> Tokenizer:
    """Read a tokenizer of any kind.

    Args:
        path: a tokenizer directory, or a bare vocabulary: a SentencePiece `.model`, a `tokenizer.json` of Hugging
            Face or the directory with it, a `.tiktoken` file. The roles of a bare one are those that it, or the
            files beside it, name.
        engine: `reference` is the library that the vocabulary is made for; `kitoken` reads the same files and is
            faster. Ask `choose_engine` first whether it gives the same ids.

    Raises:
        DataError: if there is none, or it is damaged.
        MachineError: if a library that it needs is not installed.
    """
    if engine not in ("reference", "kitoken"):
        raise ConfigError(
            f"there is no engine {engine!r}",
            where="engine",
            expected="reference or kitoken",
            nearest=nearest(engine, ("reference", "kitoken")),
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
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None
        raise DataError(
            "there is no such tokenizer file",
            where=path,
            expected=_EXPECTED,
            nearest=str(path.with_name(near)) if near else None,
        )
    if path.suffix == ".tiktoken":
        return "tiktoken", path, None
    if path.suffix == ".json":
        if is_huggingface(read_json(path, _EXPECTED)):
            return "huggingface", path, None
        if path.name == ROLES_FILE:
            return _locate(path.parent)
        raise DataError("is not a file of the tokenizers library", where=path, expected=_EXPECTED)
    if path.suffix == ".txt":
        raise DataError(
            "is a list of pieces, which does not say how text is cut into words",
            where=path,
            expected="the directory that import-tokenizer makes of a WordPiece vocab.txt",
        )
    return "sentencepiece", path, None
