"""tiktoken vocabularies: a file of byte strings and ranks, the pattern that cuts text into words, special tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configs.errors import DataError, MachineError, nearest
from configs.extras import install_command
from data_prep.tokenizer.engines import Engine, EngineName, Slow, TiktokenEngine, explaining
from data_prep.tokenizer.fast.byte_level import VERSION, ByteLevelEngine, gigatoken_library
from data_prep.tokenizer.fast.pattern_words import words_of_pattern
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.roles import SENTINELS, Description, numbered_tokens, read_bytes, usual_roles
from data_prep.tokenizer.word_starts import begins_word

# What gigatoken calls the patterns that it knows; which one is a vocabulary's shows in its ids.
_GIGATOKEN_PATTERNS = ("gpt4", "o200k", "gpt2", "qwen2", "qwen35", "olmo3", "deepseek_v3", "nemotron", "kimi")
_EXPECTED_LINES = "lines of a byte string in base64, a space, and its rank"


class TiktokenTokenizer(Tokenizer):
    """A `.tiktoken` file with its pattern; `load_tokenizer` makes it."""

    kind = "tiktoken"

    def __init__(
        self, model_path: Path, content: bytes, ranks: dict[bytes, int], description: Description, engine: EngineName
    ) -> None:
        self.pattern: str = description.extra["pattern"]
        self.special_tokens: dict[str, int] = description.extra["special_tokens"]
        self.vocab_size = max([*ranks.values(), *self.special_tokens.values()]) + 1
        self._encoding = _encoding(model_path, ranks, self.pattern, self.special_tokens)
        self._bytes = [b""] * self.vocab_size
        for data, token in ranks.items():
            self._bytes[token] = data
        super().__init__(model_path, content, description, engine)

    @classmethod
    def read(cls, model_path: Path, description: Description | None, engine: EngineName) -> TiktokenTokenizer:
        """Read a `.tiktoken` file; without a description, what it needs lies beside it or is known by its name."""
        content = read_bytes(model_path, "a .tiktoken file")
        ranks = _read_ranks(model_path, content)
        if description is None:
            description = describe_scheme(find_scheme(model_path), ranks, model_path)
        elif not isinstance(description.extra.get("pattern"), str) or not isinstance(
            description.extra.get("special_tokens"), dict
        ):
            raise DataError(
                "does not say how tiktoken cuts text",
                where=model_path.parent,
                expected="pattern and special_tokens in tokenizer.json",
            )
        return cls(model_path, content, ranks, description, engine)

    @classmethod
    def read_as(cls, model_path: Path, encoding: str) -> TiktokenTokenizer:
        """Read a `.tiktoken` file with the pattern and special tokens of `encoding`: a name or a file."""
        content = read_bytes(model_path, "a .tiktoken file")
        ranks = _read_ranks(model_path, content)
        description = describe_scheme(find_scheme(model_path, encoding), ranks, model_path)
        return cls(model_path, content, ranks, description, "reference")

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens decode to nothing, incomplete UTF-8 to U+FFFD."""
        return b"".join([self._bytes[i] for i in ids]).decode("utf-8", "replace")

    def piece(self, token: int) -> str:
        """How the vocabulary writes the id `token`; empty for an id that is not in use."""
        special = next((text for text, number in self.special_tokens.items() if number == token), "")
        return special or self._bytes[int(token)].decode("utf-8", "replace")

    def find(self, spelling: str) -> int | None:
        """The id of the special token or byte string that is spelled so, None if there is none."""
        if spelling in self.special_tokens:
            return self.special_tokens[spelling]
        data = spelling.encode()
        return self._bytes.index(data) if data in self._bytes else None

    def is_special(self, token: int) -> bool:
        """Whether no text is ever encoded as this id."""
        return not self._bytes[int(token)]

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for, int32 [vocab_size]; special tokens 0."""
        return np.array([len(data) for data in self._bytes], dtype=np.int32)

    def byte_tokens(self) -> np.ndarray:
        """Which ids write a part of a character that the vocabulary lacks, bool [vocab_size]."""
        return np.array([data.decode("utf-8", "replace").encode() != data for data in self._bytes], dtype=bool)

    def word_starts(self) -> np.ndarray:
        """Which ids begin a word, bool [vocab_size]; see `Tokenizer.word_starts`."""
        return np.array([not data or begins_word(data) for data in self._bytes], dtype=bool)

    def ranks(self) -> dict[bytes, int]:
        """Byte string -> id, in the order in which they are merged."""
        return {data: token for token, data in enumerate(self._bytes) if data}

    def _reference(self) -> Engine:
        return TiktokenEngine(self._encoding)

    def _fast(self, reference: Engine) -> Engine:
        words = words_of_pattern(self.pattern)
        if words is not None:
            return Slow(reference, f"its pattern cuts text at {words!r}, of which nothing is shown")
        library = gigatoken_library()
        if library is None:
            return Slow(reference, f"gigatoken {VERSION} is not installed ({install_command('fast')})")
        make = [partial(library.BPETokenizer.from_tiktoken, self.model_path, name, {}) for name in _GIGATOKEN_PATTERNS]
        return ByteLevelEngine(reference, make, lambda: [data for data in self._bytes if data], [*self.special_tokens])


def describe_scheme(scheme: Mapping[str, Any], ranks: Mapping[bytes, int], path: Path) -> Description:
    """Check a scheme (`pattern`, `special_tokens`) against a vocabulary and find the roles by their usual spellings.

    Raises:
        DataError: if a special token has the id of a byte string.
    """
    special = dict(scheme["special_tokens"])
    taken = set(ranks.values())
    for spelling, token in special.items():
        if token in taken:
            raise DataError(
                f"has a byte string with the id {token}, which is {spelling!r}'s",
                where=path,
                expected="another pattern and special tokens for this file",
            )
    extra = {"pattern": scheme["pattern"], "special_tokens": special}
    sentinels = numbered_tokens(SENTINELS, special.get)
    return Description("tiktoken", "bpe", usual_roles(special.get), sentinels, extra=extra)


def find_scheme(path: Path, named: str | None = None) -> dict[str, Any]:
    """The pattern and special tokens of a `.tiktoken` file.

    Args:
        path: the file.
        named: an encoding that the tiktoken library knows, or a YAML or JSON file with `pattern` (or `encoding`) and
            `special_tokens`; None: a file beside `path` with the ending .yaml or .json, else an encoding of its name.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    if named is None:
        beside = [path.with_suffix(ending) for ending in (".yaml", ".yml", ".json")]
        found = next((str(file) for file in beside if file.is_file()), None)
        named = found or (path.stem if path.stem in _known_names() else None)
    if named is None:
        raise DataError(
            "does not say how text is cut into words (its pattern)",
            where=path,
            expected=f"{path.with_suffix('.yaml').name} beside it with pattern and special_tokens, or import-tokenizer"
            f" --encoding with such a file or one of {', '.join(_known_names())}",
            nearest=nearest(path.stem, _known_names()),
        )
    if named in _known_names():
        return _known_scheme(named)
    return _read_scheme(Path(named))


def _read_scheme(path: Path) -> dict[str, Any]:
    expected = "YAML or JSON with `pattern` (or `encoding`) and `special_tokens`, a spelling and an id each"
    known = _known_names()
    if not path.is_file():
        raise DataError(
            "is no known encoding and no file",
            where=path,
            expected=f"one of {', '.join(known)}, or {expected}",
            nearest=nearest(str(path), known),
        )
    try:
        content = yaml.safe_load(read_bytes(path, expected))
    except yaml.YAMLError as error:
        raise DataError(f"is not YAML: {str(error).splitlines()[0]}", where=path, expected=expected) from None
    if not isinstance(content, dict):
        raise DataError("is not a mapping", where=path, expected=expected)
    unknown = sorted(set(content) - {"pattern", "encoding", "special_tokens"})
    if unknown:
        keys = ("pattern", "encoding", "special_tokens")
        raise DataError(f"has the key {unknown[0]!r}", where=path, expected=expected, nearest=nearest(unknown[0], keys))
    scheme: dict[str, Any] = {}
    if "encoding" in content:
        if content["encoding"] not in known:
            raise DataError(
                f"names the encoding {content['encoding']!r}",
                where=path,
                expected=f"one of {', '.join(known)}",
                nearest=nearest(str(content["encoding"]), known),
            )
        scheme = _known_scheme(content["encoding"])
    scheme |= {key: content[key] for key in ("pattern", "special_tokens") if key in content}
    special = scheme.setdefault("special_tokens", {})
    if not isinstance(scheme.get("pattern"), str):
        raise DataError("has no pattern", where=path, expected=expected)
    if not isinstance(special, dict) or not all(
        isinstance(key, str) and type(value) is int and value >= 0 for key, value in special.items()
    ):
        raise DataError("its special_tokens are not ids by spelling", where=path, expected=expected)
    return scheme


def _known_names() -> list[str]:
    return list(_library("the encodings that it knows").openai_public.ENCODING_CONSTRUCTORS)


def _known_scheme(name: str) -> dict[str, Any]:
    """Pattern and special tokens of an encoding, out of the tiktoken library; its ranks are never asked for."""
    from unittest.mock import patch

    public = _library(name).openai_public
    # Its constructors fetch the ranks over the network; here they come from the user's file.
    with patch.multiple(
        public, load_tiktoken_bpe=lambda *_, **__: {}, data_gym_to_mergeable_bpe_ranks=lambda *_, **__: {}
    ):
        known = public.ENCODING_CONSTRUCTORS[name]()
    return {"pattern": known["pat_str"], "special_tokens": dict(known["special_tokens"])}


def _library(where: object) -> Any:
    try:
        import tiktoken_ext.openai_public
    except ImportError:
        raise MachineError(
            "the library that reads it is not installed", where=where, expected=install_command("tokenizers")
        ) from None
    return tiktoken_ext


def _encoding(path: Path, ranks: dict[bytes, int], pattern: str, special: dict[str, int]) -> Any:
    _library(path)
    import tiktoken

    with explaining(path, "tiktoken"):
        return tiktoken.Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def _read_ranks(path: Path, content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line:
            continue
        try:
            data, rank = line.split()
            ranks[base64.b64decode(data, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise DataError(
                f"cannot be read: {line[:60]!r}", where=f"{path}, line {number}", expected=_EXPECTED_LINES
            ) from None
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing or len(set(ranks.values())) != len(ranks) or min(ranks.values()) < 0:
        problem = f"lacks the byte 0x{missing[0]:02x}" if missing else "gives one rank to two byte strings"
        raise DataError(problem, where=path, expected=f"{_EXPECTED_LINES}; all 256 bytes, each rank once")
    return ranks
