"""`import-tokenizer`: a vocabulary of another project -> a tokenizer directory with its roles in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from configs.errors import ConfigError, DataError, nearest
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import (
    ROLES,
    ROLES_FILE,
    VOCABULARY_FILES,
    Tokenizer,
    fingerprint_of,
    load_tokenizer,
    write_roles,
)
from data_prep.tokenizer.huggingface_kind import HuggingFaceTokenizer
from data_prep.tokenizer.roles import has_star, numbered_tokens
from data_prep.tokenizer.sentencepiece_kind import SentencePieceTokenizer
from data_prep.tokenizer.tiktoken_kind import TiktokenTokenizer
from data_prep.tokenizer.wordpiece import Normalization, describe_normalizer, find_vocabulary, wordpiece_json

_SENTINELS = "sentinels"
_NOBODY = ("", "none", "null")


def import_tokenizer(
    source: Path,
    output: Path,
    roles: Mapping[str, str],
    encoding: str | None = None,
    overwrite: bool = False,
    normalization: Normalization | None = None,
) -> Tokenizer:
    """Copy a vocabulary into a tokenizer directory and write down which id plays which role.

    Args:
        source: whatever `load_tokenizer` reads, or a WordPiece `vocab.txt` or the directory with it.
        output: the directory to write.
        roles: how the vocabulary spells the token of a role, for those that it does not name itself or that are to be
            others; `none`: no token plays it. `sentinels` is spelled with a star for the number: `<extra_id_*>`.
        encoding: the pattern and special tokens of a `.tiktoken` file: an encoding that tiktoken knows, or a file.
        overwrite: replace an existing tokenizer directory.
        normalization: what a WordPiece vocabulary does to text; None: what the files say.

    Raises:
        ConfigError: for a role or a spelling that does not exist; names the nearest.
        DataError: for a source that cannot be used, or an output that is in the way.
        MachineError: if a library is missing, or the output cannot be written.
    """
    check_replaceable(output, ROLES_FILE, overwrite, [source])
    _refuse_empty(source)
    tokenizer, vocabulary = _read(source, encoding, normalization)
    chosen = {name: tokenizer.role(name) for name in ROLES}
    sentinels = tokenizer.sentinels
    for role, spelling in roles.items():
        if role == _SENTINELS:
            sentinels = _find_sentinels(tokenizer, spelling)
        elif role in ROLES:
            chosen[role] = None if spelling.lower() in _NOBODY else _find(tokenizer, role, spelling)
        else:
            known = (*ROLES, _SENTINELS)
            raise ConfigError(
                f"there is no role {role!r}",
                where=f"{role}={spelling}",
                expected=f"one of {', '.join(known)}",
                nearest=nearest(role, known),
            )
    algorithm = tokenizer.algorithm
    if isinstance(tokenizer, SentencePieceTokenizer) and algorithm == "unknown":
        algorithm = tokenizer.read_algorithm()
    extra = tokenizer.extra
    with staged_directory(output, ROLES_FILE, overwrite, [source]) as directory:
        (directory / VOCABULARY_FILES[tokenizer.kind]).write_bytes(vocabulary)
        fingerprint = fingerprint_of(vocabulary, chosen, sentinels, extra)
        write_roles(directory, algorithm, chosen, sentinels, fingerprint, tokenizer.kind, extra)
    return load_tokenizer(output)


def _read(source: Path, encoding: str | None, normalization: Normalization | None) -> tuple[Tokenizer, bytes]:
    """A tokenizer and the contents of its vocabulary file."""
    if encoding is not None and source.suffix != ".tiktoken":
        raise ConfigError("is for .tiktoken files only", where="--encoding", expected=f"{source} to be one")
    word_pieces = find_vocabulary(source)
    if word_pieces is not None:
        content = wordpiece_json(word_pieces, normalization or Normalization())
        return HuggingFaceTokenizer.from_json(word_pieces, content), content
    if normalization not in (None, Normalization()):
        raise ConfigError(
            "a change of how text is normalised is for WordPiece vocabularies only",
            where=source,
            expected="a vocab.txt; other kinds say it in their own files",
        )
    tokenizer = load_tokenizer(source) if encoding is None else TiktokenTokenizer.read_as(source, encoding)
    return tokenizer, tokenizer.vocabulary


def describe_tokenizer(tokenizer: Tokenizer, directory: Path) -> list[str]:
    """Lines that say what a tokenizer directory holds, and what its user should know."""
    taken = {name: token for name in ROLES if (token := tokenizer.role(name)) is not None}
    spelled = ", ".join(f"{name} {token} {tokenizer.piece(token)!r}" for name, token in taken.items()) or "none"
    lines = [
        f"tokenizer    {directory}",
        f"vocabulary   {tokenizer.kind}, {tokenizer.algorithm}, {tokenizer.vocab_size:,} ids",
        f"roles        {spelled}" + (f", {len(tokenizer.sentinels)} sentinels" if tokenizer.sentinels else ""),
        f"fingerprint  {tokenizer.fingerprint}",
    ]
    if isinstance(tokenizer, HuggingFaceTokenizer) and (changes := describe_normalizer(tokenizer.normalizer)):
        lines.insert(2, f"text         {changes}")
    missing = [name for name in ("end_of_document",) if tokenizer.role(name) is None]
    lines += [
        f"no token plays the role {name}: `tokenize` needs one, or append_end_of_document=false" for name in missing
    ]
    lines += [
        f"{name} is {tokenizer.piece(token)!r}, which text may hold too: it is no special token of this vocabulary"
        for name, token in taken.items()
        if not tokenizer.is_special(token)
    ]
    return lines


def parse_roles(settings: list[str] | None) -> dict[str, str]:
    """`role=spelling` arguments.

    Raises:
        ConfigError: for one that is not of this form.
    """
    roles: dict[str, str] = {}
    for setting in settings or []:
        role, equals, spelling = setting.partition("=")
        if not equals:
            raise ConfigError(
                "is not role=spelling", where=setting, expected=f"for example {nearest(role, ROLES) or 'pad'}=<pad>"
            )
        roles[role] = spelling
    return roles


def _refuse_empty(source: Path) -> None:
    # SentencePiece takes an empty model for one, and logs for each question that it cannot answer it.
    for path in (source, *(source / name for name in VOCABULARY_FILES.values())):
        if path.is_file() and path.stat().st_size == 0:
            raise DataError("is empty", where=path, expected="a vocabulary")


def _find(tokenizer: Tokenizer, role: str, spelling: str) -> int:
    token = tokenizer.find(spelling)
    if token is None:
        special = [tokenizer.piece(each) for each in range(tokenizer.vocab_size) if tokenizer.is_special(each)]
        special = [piece for piece in special if piece]
        raise ConfigError(
            f"the vocabulary has no token {spelling!r}",
            where=f"{role}={spelling}",
            expected=f"one of its tokens ({', '.join(special[:8]) or 'it has no special ones'}) or none",
            nearest=nearest(spelling, special),
        )
    return token


def _find_sentinels(tokenizer: Tokenizer, pattern: str) -> list[int]:
    if pattern.lower() in _NOBODY:
        return []
    tokens = numbered_tokens(pattern, tokenizer.find) if has_star(pattern) else []
    if not tokens:
        raise ConfigError(
            f"the vocabulary has no tokens {pattern!r} with 0, 1, ... for the star",
            where=f"{_SENTINELS}={pattern}",
            expected="for example <extra_id_*>",
        )
    return tokens
