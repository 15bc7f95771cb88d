"""GPT-2's and RoBERTa's vocabulary files, `vocab.json` and `merges.txt` -> a `tokenizer.json` of `tokenizers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from configs.errors import DataError
from data_prep.tokenizer.byte_alphabet import to_byte_alphabet
from data_prep.tokenizer.roles import KNOWN_SPELLINGS, read_bytes, read_json

VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"
_ADDED_FILE = "added_tokens.json"
_NAMING_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_EXPECTED = "vocab.json with the id of each piece and merges.txt with two pieces per line, of a byte-level BPE"


def byte_level_json(directory: Path) -> bytes:
    """The `tokenizer.json` that gives text the ids of `transformers.GPT2Tokenizer` with the same files.

    Raises:
        DataError: if they cannot be read, or are not of a byte-level BPE.
    """
    pieces = read_json(directory / VOCABULARY_FILE, _EXPECTED)
    if not isinstance(pieces, dict) or not all(type(token) is int for token in pieces.values()):
        raise DataError("is not an id for each piece", where=directory / VOCABULARY_FILE, expected=_EXPECTED)
    lacking = next((byte for byte in range(256) if to_byte_alphabet(bytes([byte])) not in pieces), None)
    if lacking is not None:
        raise DataError(
            f"has no piece for the byte 0x{lacking:02x}", where=directory / VOCABULARY_FILE, expected=_EXPECTED
        )
    merges = _read_merges(directory / MERGES_FILE, pieces)
    config, named = _named_tokens(directory)
    added_file = directory / _ADDED_FILE
    later = read_json(added_file, "an id for each added token") if added_file.is_file() else {}
    usual = {spelling for spellings in KNOWN_SPELLINGS.values() for spelling in spellings}
    special = {text: pieces[text] for text in sorted(usual | named) if text in pieces} | later
    added = [
        {"id": token, "content": text, "single_word": False, "lstrip": text == "<mask>", "rstrip": False,
         "normalized": False, "special": text in usual | named}
        for text, token in sorted(special.items(), key=lambda item: item[1])
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level | {"add_prefix_space": bool(config.get("add_prefix_space", False))},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": pieces,
                  "merges": merges},
    }  # fmt: skip
    return orjson.dumps(content)


def _named_tokens(directory: Path) -> tuple[dict[str, Any], set[str]]:
    """What `tokenizer_config.json` says, and the special tokens that it and the file beside it name."""
    files = [directory / name for name in _NAMING_FILES]
    found = [read_json(file, "the config of a tokenizer") if file.is_file() else {} for file in files]
    named = set()
    for key, value in [item for content in found for item in content.items()]:
        spelling = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(spelling, str):
            named.add(spelling)
    return found[0], named


def _read_merges(path: Path, pieces: dict[str, int]) -> list[str]:
    lines = read_bytes(path, _EXPECTED).decode("utf-8", "replace").split("\n")
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= pieces.keys():
            raise DataError(
                f"cannot be read: {line[:60]!r}", where=f"{path}, line {number}", expected="two pieces of vocab.json"
            )
        merges.append(line)
    return merges
