"""Text <-> token ids: a SentencePiece model and the roles that some of its ids play.

A tokenizer is a directory of `tokenizer.model` (SentencePiece) and `tokenizer.json` (roles, algorithm, fingerprint).
Those that this project trains lose nothing: `decode(encode(text)) == text` for every text, because unknown characters
fall back to their UTF-8 bytes, nothing is normalised, and no space is added in front.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from configs.errors import DataError

MODEL_FILE = "tokenizer.model"
ROLES_FILE = "tokenizer.json"
ROLES = ("end_of_document", "beginning_of_document", "unknown", "pad", "mask")
_SPACE = "\u2581"  # how SentencePiece writes a space inside a piece
_MASK_PIECES = ("<mask>", "[MASK]", "<|mask|>")
_LONG_CHARS = 1 << 20


class Tokenizer:
    """Text to ids and back; load one with `Tokenizer.load`.

    Attributes:
        model_path: the SentencePiece model file.
        algorithm: `bpe`, `unigram`, `char` or `word`; `unknown` for a bare model file.
        sentinels: ids that stand for masked spans, in order; often none.
        fingerprint: hash of the model and the roles; equal for tokenizers that give equal ids.
    """

    def __init__(self, model_path: Path, model: bytes, roles: dict[str, Any] | None) -> None:
        self.model_path = model_path
        self._sp = _load_sentencepiece(model_path, model)
        roles = roles if roles is not None else _roles_of_model(self._sp)
        self.algorithm: str = roles["algorithm"]
        self._roles: dict[str, int | None] = {name: roles["roles"].get(name) for name in ROLES}
        self.sentinels: list[int] = list(roles["sentinels"])
        self.fingerprint: str = fingerprint_of(model, self._roles, self.sentinels)
        self._separators = self._find_separators()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a tokenizer directory, or a bare SentencePiece `.model` file, whose roles are then its own.

        Raises:
            DataError: if there is none, or it is damaged.
        """
        path = Path(path)
        if path.is_dir():
            model_path, roles_path = path / MODEL_FILE, path / ROLES_FILE
        else:
            model_path, roles_path = path, None
        model = _read_bytes(model_path, "a tokenizer directory or a SentencePiece .model file")
        if roles_path is None:
            return cls(model_path, model, None)
        roles = _read_roles(roles_path)
        tokenizer = cls(model_path, model, roles)
        if tokenizer.fingerprint != roles["fingerprint"]:
            raise DataError(
                f"has the fingerprint {tokenizer.fingerprint}: model and roles do not belong together",
                where=path,
                expected=f"{roles['fingerprint']}, as {ROLES_FILE} says",
            )
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return int(self._sp.vocab_size())

    def role(self, name: str) -> int | None:
        """The id that plays the role `name` (one of `ROLES`), or None when no id does.

        Raises:
            KeyError: if there is no such role.
        """
        return self._roles[name]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; text that looks like a special token stays text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; one call for many is faster than many calls."""
        if any(len(text) > _LONG_CHARS for text in texts) or (
            self._separators is not None and any(self._separators.search(text) for text in texts)
        ):
            return [self._encode_in_parts(text) for text in texts]
        return self._encode_plain(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens decode to nothing, incomplete UTF-8 to U+FFFD."""
        return self._sp.decode([int(i) for i in ids])

    def piece(self, token: int) -> str:
        """How the vocabulary writes the id `token`, spaces as they are."""
        return self._sp.id_to_piece(int(token)).replace(_SPACE, " ")

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for, int32 [vocab_size]; special tokens 0, byte pieces 1."""
        sp = self._sp
        sizes = np.zeros(self.vocab_size, dtype=np.int32)
        for token in range(self.vocab_size):
            if sp.is_byte(token):
                sizes[token] = 1
            elif not (sp.is_control(token) or sp.is_unknown(token) or sp.is_unused(token)):
                sizes[token] = len(self.piece(token).encode())
        return sizes

    def copy_to(self, directory: Path) -> None:
        """Write this tokenizer's two files into `directory`, which is made if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_path, directory / MODEL_FILE)
        write_roles(directory, self.algorithm, self._roles, self.sentinels, self.fingerprint)

    @cached_property
    def _byte_ids(self) -> list[int] | None:
        ids = [self._sp.piece_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        return ids if all(self._sp.is_byte(i) for i in ids) else None

    def _find_separators(self) -> re.Pattern[str] | None:
        # SentencePiece reads a literal U+2581 as a space, and the word algorithm takes a line break for a letter:
        # these characters are cut out of the text and written as bytes. A model that puts a space in front of
        # every piece of text cannot be fed in parts, so texts reach it unchanged.
        if self._byte_ids is None or self._sp.encode_as_pieces("a")[0].startswith(_SPACE):
            return None
        return re.compile(f"([{_SPACE}\n\t\r])" if self.algorithm == "word" else f"({_SPACE})")

    def _encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        batch: list[list[int]] = self._sp.encode(list(texts), num_threads=1)
        if self.algorithm == "word" and self._byte_ids is not None:
            return [self._mend_spaces(ids) for ids in batch]
        return batch

    def _encode_in_parts(self, text: str) -> list[int]:
        ids: list[int] = []
        if self._separators is None:
            return self._encode_plain([text])[0]
        for position, part in enumerate(self._separators.split(text)):
            if position % 2:
                assert self._byte_ids is not None
                ids.extend(self._byte_ids[byte] for byte in part.encode())
            else:
                for encoded in self._encode_plain(list(_cut_at_lines(part))):
                    ids.extend(encoded)
        return ids

    def _mend_spaces(self, ids: list[int]) -> list[int]:
        """Turn the bytes of U+2581, in which the word algorithm spells the space of an unknown word, into a space."""
        assert self._byte_ids is not None
        space, mended = [self._byte_ids[byte] for byte in _SPACE.encode()], []
        at = 0
        while at < len(ids):
            if ids[at : at + 3] == space:
                mended.append(self._byte_ids[0x20])
                at += 3
            else:
                mended.append(ids[at])
                at += 1
        return mended


def fingerprint_of(model: bytes, roles: dict[str, int | None], sentinels: list[int]) -> str:
    """Hash of a SentencePiece model and the roles of its ids, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128(model)
    digest.update(orjson.dumps([[name, roles.get(name)] for name in ROLES] + [sentinels]))
    return digest.hexdigest()


def write_roles(
    directory: Path, algorithm: str, roles: dict[str, int | None], sentinels: list[int], fingerprint: str
) -> None:
    """Write `tokenizer.json` beside a model."""
    content = {"algorithm": algorithm, "roles": roles, "sentinels": sentinels, "fingerprint": fingerprint}
    (directory / ROLES_FILE).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _load_sentencepiece(path: Path, model: bytes) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_proto=model)
        if processor.vocab_size() == 0:
            raise RuntimeError("no pieces")
        return processor
    except RuntimeError:
        raise DataError("is not a SentencePiece model, or is damaged", where=path) from None


def _roles_of_model(sp: Any) -> dict[str, Any]:
    def known(token: int) -> int | None:
        return token if token >= 0 else None

    masks = [sp.piece_to_id(piece) for piece in _MASK_PIECES]
    roles = {
        "end_of_document": known(sp.eos_id()),
        "beginning_of_document": known(sp.bos_id()),
        "unknown": known(sp.unk_id()),
        "pad": known(sp.pad_id()),
        "mask": next((token for token in masks if token != sp.unk_id()), None),
    }
    return {"algorithm": "unknown", "roles": roles, "sentinels": []}


def _read_roles(path: Path) -> dict[str, Any]:
    expected = "algorithm, roles, sentinels and fingerprint"
    try:
        content = orjson.loads(_read_bytes(path, f"a tokenizer directory with {MODEL_FILE} and {ROLES_FILE}"))
    except orjson.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", where=path, expected=expected) from None
    kinds = {"algorithm": str, "roles": dict, "sentinels": list, "fingerprint": str}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise DataError("is not the description of a tokenizer", where=path, expected=expected)
    return content


def _read_bytes(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such tokenizer file", where=path, expected=expected) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, expected=expected) from None


def _cut_at_lines(text: str) -> Iterable[str]:
    """Parts of at most about a million characters, ending after a line break where there is one.

    SentencePiece keeps several words of state per character, so a book-sized document goes in bit by bit.
    """
    start = 0
    while len(text) - start > _LONG_CHARS:
        end = text.rfind("\n", start, start + _LONG_CHARS) + 1 or start + _LONG_CHARS
        yield text[start:end]
        start = end
    if start < len(text) or not text:
        yield text[start:]
