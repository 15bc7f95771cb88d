"""Vocabularies of Hugging Face's `tokenizers` library: a `tokenizer.json`, and the files beside it that name roles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from configs.errors import DataError, MachineError
from configs.extras import install_command
from data_prep.tokenizer.byte_alphabet import from_byte_alphabet
from data_prep.tokenizer.byte_level_files import MERGES_FILE, byte_level_json
from data_prep.tokenizer.engines import Engine, EngineName, HuggingFaceEngine, Slow, explaining
from data_prep.tokenizer.fast.byte_level import VERSION, ByteLevelEngine, gigatoken_library
from data_prep.tokenizer.fast.pattern_words import own_words
from data_prep.tokenizer.fast.word_memory import WordMemory
from data_prep.tokenizer.huggingface_guard import find_leaks, without_leaks
from data_prep.tokenizer.huggingface_roles import described_by
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.roles import BORDERS, Description, read_bytes
from data_prep.tokenizer.word_cuts import cut_before_spaces
from data_prep.tokenizer.word_starts import begins_word, byte_of, unmarked_words
from data_prep.tokenizer.wordpiece import Normalization, wordpiece_json

_SPACE = "\u2581"


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json`; `load_tokenizer` makes it.

    Nothing is added to texts, cut off or padded, and text that looks like a special token stays text. Added tokens that
    the file itself does not call special are found in text, as their makers meant them to be.

    Attributes:
        leaks: special tokens whose spelling the library by itself would find in text, because its model knows it.
    """

    kind = "huggingface"

    def __init__(
        self, model_path: Path, content: bytes, pipeline: Any, description: Description, engine: EngineName
    ) -> None:
        self._pipeline = pipeline
        content_json = orjson.loads(pipeline.to_str())
        self._added = {int(token): added for token, added in pipeline.get_added_tokens_decoder().items()}
        self.leaks = find_leaks(
            pipeline, {added.content: token for token, added in self._added.items() if added.special}
        )
        self._encoder = load_pipeline(model_path, without_leaks(content_json, self.leaks)) if self.leaks else pipeline
        # Without what is large: the library holds it.
        model = {name: value for name, value in content_json["model"].items() if name not in ("vocab", "merges")}
        self._json: dict[str, Any] = content_json | {"model": model}
        self.vocab_size = max(pipeline.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        super().__init__(model_path, content, description, engine)

    @classmethod
    def read(cls, model_path: Path, description: Description | None, engine: EngineName) -> HuggingFaceTokenizer:
        """Read a `tokenizer.json`; without a description, the roles are those that the files beside it name."""
        if model_path.name == MERGES_FILE:
            return cls.from_json(model_path, byte_level_json(model_path.parent), description, engine)
        if model_path.suffix == ".txt":
            return cls.from_json(model_path, wordpiece_json(model_path, Normalization()), description, engine)
        content = read_bytes(model_path, "a tokenizer.json of Hugging Face's tokenizers library")
        return cls.from_json(model_path, content, description, engine)

    @classmethod
    def from_json(
        cls, model_path: Path, content: bytes, description: Description | None = None, engine: EngineName = "auto"
    ) -> HuggingFaceTokenizer:
        """The tokenizer of the contents of a `tokenizer.json`, made of the file at `model_path`."""
        pipeline = load_pipeline(model_path, content)
        if not pipeline.get_vocab_size(with_added_tokens=True):
            raise DataError("holds no pieces", where=model_path, expected="a trained vocabulary")
        parsed = orjson.loads(content)
        if description is None:
            description = described_by(pipeline, parsed, model_path.parent)
        borders = {description.roles.get(role) for role in BORDERS}
        found_in_text = [t for t in parsed.get("added_tokens") or [] if t["id"] in borders and not t["special"]]
        if found_in_text:
            # Text that spells it is text: the library is told that it is special.
            for token in found_in_text:
                token["special"] = True
            pipeline = load_pipeline(model_path, orjson.dumps(parsed))
        return cls(model_path, content, pipeline, description, engine)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens decode to nothing, incomplete UTF-8 to U+FFFD."""
        text: str = self._pipeline.decode([int(i) for i in ids], skip_special_tokens=True)
        return text

    def piece(self, token: int) -> str:
        """How the vocabulary writes the id `token`, spaces as they are; empty for an id that is not in use."""
        piece = self._pipeline.id_to_token(int(token))
        if piece is None:
            return ""
        if self._is_byte_level and int(token) not in self._added:
            return from_byte_alphabet(piece).decode("utf-8", "replace")
        return str(piece).replace(_SPACE, " ")

    def find(self, spelling: str) -> int | None:
        """The id of the piece or added token that is spelled so, None if there is none."""
        token = self._pipeline.token_to_id(spelling)
        return None if token is None else int(token)

    def is_special(self, token: int) -> bool:
        """Whether no text is ever encoded as this id."""
        added = self._added.get(int(token))
        return self._pipeline.id_to_token(int(token)) is None or (added is not None and added.special)

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for, int32 [vocab_size]; special tokens 0, byte pieces 1.

        WordPiece drops the spaces between words; each piece that begins one counts one for it.
        """
        sizes = np.zeros(self.vocab_size, dtype=np.int32)
        prefix = str(self._json["model"].get("continuing_subword_prefix") or "")
        is_wordpiece = self._json["model"].get("type") == "WordPiece"
        for token in range(self.vocab_size):
            if self.is_special(token):
                continue
            piece = str(self._pipeline.id_to_token(token))
            if token in self._added:
                sizes[token] = len(self._added[token].content.encode())
            elif is_wordpiece and not self._is_byte_level:
                inner = bool(prefix) and piece.startswith(prefix)
                sizes[token] = len(piece.removeprefix(prefix).encode()) if inner else len(piece.encode()) + 1
            else:
                sizes[token] = len(self._text_of(piece))
        return sizes

    def byte_tokens(self) -> np.ndarray:
        """Which ids write a part of a character that the vocabulary lacks, bool [vocab_size]."""
        found = np.zeros(self.vocab_size, dtype=bool)
        for piece, token in self._pipeline.get_vocab(with_added_tokens=False).items():
            if self._is_byte_level:
                found[token] = not _is_text(from_byte_alphabet(piece))
            else:
                found[token] = self._has_byte_pieces and _is_byte_piece(piece)
        return found

    def word_starts(self) -> np.ndarray:
        """Which ids begin a word, bool [vocab_size]; see `Tokenizer.word_starts`.

        Raises:
            DataError: if no piece begins with a space and none is marked as the inside of a word.
        """
        model = self._json["model"]
        if model.get("end_of_word_suffix"):
            raise unmarked_words(self.model_path, f"{model['end_of_word_suffix']!r} marks where words end")
        prefix = str(model.get("continuing_subword_prefix") or "")
        starts = np.ones(self.vocab_size, dtype=bool)
        pieces = self._pipeline.get_vocab(with_added_tokens=False)
        in_text = {piece: token for piece, token in pieces.items() if token not in self._added}
        if model.get("type") == "WordLevel":
            return starts
        for piece, token in in_text.items():
            starts[token] = not piece.startswith(prefix) if prefix else begins_word(self._text_of(piece))
        if not prefix and not any(self._text_of(piece)[:1].isspace() for piece in in_text):
            raise unmarked_words(self.model_path, "no piece begins with a space")
        return starts

    def _text_of(self, piece: str) -> bytes:
        """The UTF-8 bytes of text that a piece stands for, a space in front included."""
        if self._is_byte_level:
            return from_byte_alphabet(piece)
        if self._has_byte_pieces and _is_byte_piece(piece):
            return byte_of(piece)
        return piece.replace(_SPACE, " ").encode()

    def _reference(self) -> Engine:
        return HuggingFaceEngine(self._encoder)

    def _fast(self, reference: Engine) -> Engine:
        model, cuts = self._json["model"], set(_types(self._json.get("pre_tokenizer")))
        found_in_text = [added.content for added in self._added.values() if not added.special]
        if model.get("type") == "WordPiece" and cuts == {"BertPreTokenizer"} and not found_in_text:
            changes = set(_types(self._json.get("normalizer")))
            return WordMemory(reference, cut_before_spaces()) if changes <= {"BertNormalizer"} else _other(reference)
        changes = set(_types(self._json.get("normalizer"))) - {"Sequence"}
        if model.get("type") != "BPE" or "ByteLevel" not in cuts or changes - {"NFC"} or model.get("dropout"):
            return _other(reference)
        words = own_words(self._json["pre_tokenizer"])
        if words is not None:
            return Slow(reference, f"its text is cut at {words!r}, of which nothing is shown")
        library = gigatoken_library()
        if library is None:
            return Slow(reference, f"gigatoken {VERSION} is not installed ({install_command('fast')})")
        special = [added.content for added in self._added.values() if added.special]
        return ByteLevelEngine(
            reference,
            [lambda: library.load_hf_json(self._bare_json())],
            self._model_pieces,
            special,
            found_in_text,
            is_normalized="NFC" in changes,
        )

    def fast_parts(self) -> tuple[ByteLevelEngine, str, str] | None:
        """The fast way to ids, its vocabulary as gigatoken reads it, and as the library does; None: there is none."""
        if not isinstance(self._engine, ByteLevelEngine) or self._engine.why_not() is not None:
            return None
        return self._engine, self._bare_json(), self._encoder.to_str()

    def _bare_json(self) -> str:
        """The same model and cuts, without special tokens."""
        from tokenizers import Tokenizer as Pipeline

        bare = Pipeline(self._encoder.model)
        bare.pre_tokenizer = self._encoder.pre_tokenizer
        bare.decoder = self._encoder.decoder
        return str(bare.to_str())

    def _model_pieces(self) -> list[bytes]:
        pieces = (self._pipeline.id_to_token(token) for token in range(self.vocab_size) if token not in self._added)
        return [from_byte_alphabet(piece) for piece in pieces if piece]

    @property
    def normalizer(self) -> dict[str, Any]:
        """What the file does to text before it is cut into words; empty: nothing."""
        return self._json.get("normalizer") or {}

    @cached_property
    def _is_byte_level(self) -> bool:
        return "ByteLevel" in set(_types(self._json.get("decoder")))

    @cached_property
    def _has_byte_pieces(self) -> bool:
        return "ByteFallback" in set(_types(self._json.get("decoder")))


def _other(reference: Engine) -> Engine:
    return Slow(reference, "it is neither a byte-level BPE nor BERT's WordPiece")


def load_pipeline(path: Path, content: bytes) -> Any:
    """The library's pipeline that adds nothing to text and takes special tokens for text.

    Args:
        path: where it comes from, for messages.
        content: a `tokenizer.json`.

    Raises:
        MachineError: if the library is not installed.
        DataError: if it cannot use the content.
    """
    try:
        from tokenizers import Tokenizer as Pipeline
    except ImportError:
        raise MachineError(
            "the library that reads it is not installed", where=path, expected=install_command("tokenizers")
        ) from None
    # Its own threads would fight with the worker processes for the cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with explaining(path, "tokenizers"):
        pipeline = Pipeline.from_buffer(content)
        pipeline.no_padding()
        pipeline.no_truncation()
        pipeline.encode_special_tokens = True
    return pipeline


def _types(part: object) -> Iterator[str]:
    """Types of a part of the pipeline and, if it is a sequence, of its members."""
    if isinstance(part, dict):
        yield str(part.get("type"))
        for members in part.values():
            for member in members if isinstance(members, list) else ():
                yield from _types(member)


def _is_byte_piece(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
