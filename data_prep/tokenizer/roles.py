"""The one place that says which id plays which role: `tokenizer.json` of a tokenizer directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import xxhash

from configs.errors import DataError

MODEL_FILE = "tokenizer.model"
ROLES_FILE = "tokenizer.json"
VOCABULARY_FILES = {
    "sentencepiece": MODEL_FILE,
    "huggingface": "vocabulary.json",
    "tiktoken": "vocabulary.tiktoken",
}
"""The vocabulary file of each kind in a tokenizer directory."""
_FIRST_ROLES = ("end_of_document", "beginning_of_document", "unknown", "pad", "mask")
_ENCODER_ROLES = ("classification", "separator")
_MODE_ROLES = ("regular_denoising", "sequential_denoising", "extreme_denoising")
_INFILLING_ROLES = ("fim_prefix", "fim_suffix", "fim_middle")
_LATER_ROLES = (*_ENCODER_ROLES, *_MODE_ROLES, *_INFILLING_ROLES)
ROLES = (*_FIRST_ROLES, *_LATER_ROLES)
"""What an id can be for; `classification` and `separator` are BERT's `[CLS]` and `[SEP]`, RoBERTa's `<s>` and `</s>`;
`regular_denoising`, `sequential_denoising` and `extreme_denoising` are UL2's mode tokens `[NLU]`, `[S2S]` and `[NLG]`;
`fim_prefix`, `fim_suffix` and `fim_middle` begin the parts of a document whose middle is to be filled in.

Two roles may share an id: RoBERTa's `</s>` ends a document and separates the parts of a pair.
"""
KNOWN_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "end_of_document": ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>"),
    "beginning_of_document": ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "<|bos|>"),
    "unknown": ("<unk>", "[UNK]", "<|unk|>"),
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
    # Not `<s>` and `</s>`: what they are for differs; RoBERTa's own files say that they are these.
    "classification": ("[CLS]", "<cls>", "<|cls|>"),
    "separator": ("[SEP]", "<sep>", "<|sep|>"),
    "regular_denoising": ("[NLU]",),
    "sequential_denoising": ("[S2S]",),
    "extreme_denoising": ("[NLG]",),
    "fim_prefix": ("<fim_prefix>", "<|fim_prefix|>", "<fim-prefix>"),
    "fim_suffix": ("<fim_suffix>", "<|fim_suffix|>", "<fim-suffix>"),
    "fim_middle": ("<fim_middle>", "<|fim_middle|>", "<fim-middle>"),
}
"""How vocabularies usually spell a role; asked only where nothing else names the role's token."""
BORDERS = ("end_of_document", "beginning_of_document")
"""Roles of tokens that stand between documents: where a vocabulary can be told so, no text becomes them."""
SENTINELS = "<extra_id_*>"
_STAR = "*"


@dataclass(frozen=True)
class Description:
    """What `tokenizer.json` says.

    Attributes:
        kind: `sentencepiece`, `huggingface` or `tiktoken`.
        algorithm: how pieces are chosen (`bpe`, `unigram`, ...); `unknown` where the file does not tell.
        roles: the id of each of `ROLES`, None where no id plays it.
        sentinels: ids that stand for masked spans, in order.
        fingerprint: what the vocabulary file and the roles have to hash to; None: not said.
        extra: what the kind needs besides (tiktoken: `pattern` and `special_tokens`).
    """

    kind: str
    algorithm: str
    roles: dict[str, int | None]
    sentinels: list[int] = field(default_factory=list)
    fingerprint: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def fingerprint_of(
    model: bytes, roles: Mapping[str, int | None], sentinels: list[int], extra: Mapping[str, Any] | None = None
) -> str:
    """Hash of a vocabulary file, the roles of its ids and what else decides the ids, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128(model)
    hashed: list[object] = [[name, roles.get(name)] for name in _FIRST_ROLES]
    # The others came later: where there are none, the hash is what it was before.
    hashed += [[name, roles[name]] for name in _LATER_ROLES if roles.get(name) is not None]
    digest.update(orjson.dumps([*hashed, sentinels]))
    if extra:
        digest.update(orjson.dumps(extra, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def write_roles(
    directory: Path,
    algorithm: str,
    roles: Mapping[str, int | None],
    sentinels: list[int],
    fingerprint: str,
    kind: str = "sentencepiece",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `tokenizer.json` beside a vocabulary file."""
    content: dict[str, Any] = {"kind": kind, "algorithm": algorithm, "roles": dict(roles), "sentinels": sentinels}
    content |= {"fingerprint": fingerprint, **(extra or {})}
    (directory / ROLES_FILE).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_description(path: Path) -> Description | None:
    """What our `tokenizer.json` at `path` says; None if it is Hugging Face's file of that name.

    Raises:
        DataError: if there is none, or it is neither.
    """
    content = read_json(path, f"a tokenizer directory with {ROLES_FILE} and its vocabulary")
    if is_huggingface(content):
        return None
    kinds = {"algorithm": str, "roles": dict, "sentinels": list, "fingerprint": str}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise DataError(
            "is not the description of a tokenizer",
            where=path,
            expected="algorithm, roles, sentinels and fingerprint, or Hugging Face's file of this name",
        )
    known = {"kind", *kinds}
    kind = content.get("kind", "sentencepiece")
    if kind not in VOCABULARY_FILES:
        raise DataError(f"names the kind {kind!r}", where=path, expected=f"one of {', '.join(VOCABULARY_FILES)}")
    roles = {name: content["roles"].get(name) for name in ROLES}
    if not all(token is None or isinstance(token, int) for token in [*roles.values(), *content["sentinels"]]):
        raise DataError("names an id that is no number", where=path, expected="an id or null for each role")
    extra = {key: value for key, value in content.items() if key not in known}
    return Description(kind, content["algorithm"], roles, content["sentinels"], content["fingerprint"], extra)


def is_huggingface(content: object) -> bool:
    """Whether parsed JSON is a file of the `tokenizers` library."""
    return isinstance(content, dict) and isinstance(content.get("model"), dict) and "fingerprint" not in content


def read_json(path: Path, expected: str) -> Any:
    """Parsed JSON of a tokenizer's file.

    Raises:
        DataError: if there is no such file, or it is damaged.
    """
    try:
        return orjson.loads(read_bytes(path, expected))
    except orjson.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", where=path, expected=expected) from None


def read_bytes(path: Path, expected: str) -> bytes:
    """Contents of a tokenizer's file.

    Raises:
        DataError: if there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such tokenizer file", where=path, expected=expected) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, expected=expected) from None


def usual_roles(find: Callable[[str], int | None]) -> dict[str, int | None]:
    """The id of each role by its usual spellings.

    Args:
        find: the id of a special token with this spelling, or None.
    """
    found = {role: [find(spelling) for spelling in spellings] for role, spellings in KNOWN_SPELLINGS.items()}
    return {role: next((token for token in found[role] if token is not None), None) for role in ROLES}


def numbered_tokens(pattern: str, find: Callable[[str], int | None]) -> list[int]:
    """Ids of the tokens that `pattern` spells with the numbers 0, 1, ... in place of its star, up to the first gap."""
    tokens: list[int] = []
    while (token := find(pattern.replace(_STAR, str(len(tokens))))) is not None:
        tokens.append(token)
    return tokens


def has_star(pattern: str) -> bool:
    """Whether `pattern` can number sentinels: exactly one star."""
    return len(re.findall(re.escape(_STAR), pattern)) == 1
