"""SentencePiece models, ours and others'.

Those that this project trains lose nothing: `decode(encode(text)) == text` for every text, because unknown characters
fall back to their UTF-8 bytes, nothing is normalised, and no space is added in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from data_prep.tokenizer import parts
from data_prep.tokenizer.engines import Engine, EngineName, SentencePieceEngine, Slow, join
from data_prep.tokenizer.fast.word_memory import WordMemory
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.roles import BORDERS, KNOWN_SPELLINGS, ROLES, Description, read_bytes
from data_prep.tokenizer.sentencepiece_model import ALGORITHMS, CONTROL, SPACE, USER_DEFINED, parse, read_joints
from data_prep.tokenizer.word_cuts import cut_long
from data_prep.tokenizer.word_starts import begins_word, byte_of, unmarked_words


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model; `load_tokenizer` makes it."""

    kind = "sentencepiece"

    def __init__(
        self, model_path: Path, model: bytes, processor: Any, description: Description, engine: EngineName
    ) -> None:
        self._sp = processor
        self._joints = read_joints(processor.serialized_model_proto())
        self.vocab_size = int(processor.vocab_size())
        super().__init__(model_path, model, description, engine)
        self._separators = self._find_separators()

    @classmethod
    def read(cls, model_path: Path, description: Description | None, engine: EngineName) -> SentencePieceTokenizer:
        """Read a `.model` file; without a description, the roles are those that the model names."""
        model = read_bytes(model_path, "a tokenizer directory or a SentencePiece .model file")
        processor = _load(model_path, model)
        description = description or _described_by(processor)
        borders = {description.roles.get(role) for role in BORDERS}
        proto = parse(model)
        found_in_text = [n for n, piece in enumerate(proto.pieces) if n in borders and piece.type == USER_DEFINED]
        if found_in_text:
            # Text that spells it is text: as a control symbol, the library does not look for it.
            for number in found_in_text:
                proto.pieces[number].type = CONTROL
            processor = _load(model_path, proto.SerializeToString())
        return cls(model_path, model, processor, description, engine)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens decode to nothing, incomplete UTF-8 to U+FFFD."""
        text: str = self._sp.decode([int(i) for i in ids])
        return text

    def piece(self, token: int) -> str:
        """How the vocabulary writes the id `token`, spaces as they are."""
        piece: str = self._sp.id_to_piece(int(token))
        return piece.replace(SPACE, " ")

    def find(self, spelling: str) -> int | None:
        """The id of the piece that is spelled so, None if there is none."""
        token = int(self._sp.piece_to_id(spelling))
        return token if self._sp.id_to_piece(token) == spelling else None

    def is_special(self, token: int) -> bool:
        """Whether no text is ever encoded as this id; user-defined symbols of a model are found in text."""
        return bool(self._sp.is_control(token) or self._sp.is_unknown(token) or self._sp.is_unused(token))

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for, int32 [vocab_size]; special tokens 0, byte pieces 1."""
        sizes = np.zeros(self.vocab_size, dtype=np.int32)
        for token in range(self.vocab_size):
            if self._sp.is_byte(token):
                sizes[token] = 1
            elif not self.is_special(token):
                sizes[token] = len(self.piece(token).encode())
        return sizes

    def byte_tokens(self) -> np.ndarray:
        """Which ids are byte pieces, bool [vocab_size]."""
        return np.array([self._sp.is_byte(token) for token in range(self.vocab_size)], dtype=bool)

    def word_starts(self) -> np.ndarray:
        """Which ids begin a word, bool [vocab_size]; see `Tokenizer.word_starts`.

        Raises:
            DataError: if pieces end with their space.
        """
        proto = parse(self.vocabulary)
        if proto.trainer_spec.treat_whitespace_as_suffix:
            raise unmarked_words(self.model_path, "its pieces end with a space")
        starts = np.ones(self.vocab_size, dtype=bool)
        for token, piece in enumerate(proto.pieces):
            if self._sp.is_byte(token):
                starts[token] = begins_word(byte_of(piece.piece))
            elif not self.is_special(token) and piece.type != USER_DEFINED:
                starts[token] = begins_word(self.piece(token).encode())
        return starts

    def read_algorithm(self) -> str:
        """The algorithm that the model file itself names."""
        return ALGORITHMS.get(parse(self.vocabulary).trainer_spec.model_type, "unknown")

    def _reference(self) -> Engine:
        return SentencePieceEngine(self._sp)

    def _fast(self, reference: Engine) -> Engine:
        if self._joints is None:
            return Slow(reference, "the model changes text before it cuts it")
        if not self._joints.parts_words:
            return Slow(reference, "only a BPE without user-defined symbols gives parts of text the ids of the whole")
        return WordMemory(reference, self._joints.joined)

    @cached_property
    def _byte_ids(self) -> list[int] | None:
        ids = [self._sp.piece_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        return ids if all(self._sp.is_byte(i) for i in ids) else None

    def _find_separators(self) -> re.Pattern[str] | None:
        # SentencePiece reads a literal U+2581 as a space, and the word algorithm takes a line break for a letter:
        # these characters are cut out of the text and written as bytes. A model that changes text before it splits it
        # cannot be fed in parts: its texts reach it whole and unchanged.
        if self._joints is None or self._byte_ids is None:
            return None
        return re.compile(f"([{SPACE}\n\t\r])" if self.algorithm == "word" else f"({SPACE})")

    def _special(self, texts: Sequence[str]) -> list[int]:
        if self._separators is None:
            return []
        if self.algorithm == "word":
            return list(range(len(texts)))
        limit = parts.LONG_CHARS
        return [number for number, text in enumerate(texts) if SPACE in text or len(text) > limit]

    def _encode_special(self, text: str) -> np.ndarray:
        assert self._separators is not None and self._byte_ids is not None
        pieces = [np.empty(0, np.int32)]
        for position, part in enumerate(self._separators.split(text)):
            if position % 2:
                pieces.append(np.array([self._byte_ids[byte] for byte in part.encode()], dtype=np.int32))
            elif part:
                pieces.extend(map(self._encode_part, self._cut(part)))
        return join(pieces)[0]

    def _cut(self, text: str) -> Iterator[str]:
        """Parts of a text that are not too long for the engine, with the ids of the whole."""
        assert self._joints is not None
        if self.algorithm == "word":
            return parts.cut_at_spaces(text)
        return cut_long(text, self._joints.joined, parts.LONG_CHARS)

    def _encode_part(self, text: str) -> np.ndarray:
        ids, _ = self._engine.flat([text])
        return self._mend_spaces(ids) if self.algorithm == "word" else ids

    def _mend_spaces(self, ids: np.ndarray) -> np.ndarray:
        """Turn the bytes of U+2581, in which the word algorithm spells the space of an unknown word, into a space."""
        assert self._byte_ids is not None
        first, second, third = (self._byte_ids[byte] for byte in SPACE.encode())
        found = np.flatnonzero((ids[:-2] == first) & (ids[1:-1] == second) & (ids[2:] == third))
        if not len(found):
            return ids
        mended = ids.copy()
        mended[found] = self._byte_ids[0x20]
        return np.delete(mended, np.concatenate([found + 1, found + 2]))


def _load(path: Path, model: bytes) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        if not model:
            raise RuntimeError("the library would log about an empty file first")
        processor = SentencePieceProcessor(model_proto=model)
        if processor.vocab_size() == 0:
            raise RuntimeError("no pieces")
        return processor
    except RuntimeError:
        raise DataError("is not a SentencePiece model, or is damaged", where=path) from None


def _described_by(sp: Any) -> Description:
    def known(token: int) -> int | None:
        return token if token >= 0 else None

    def spelled(role: str) -> int | None:
        tokens = [sp.piece_to_id(piece) for piece in KNOWN_SPELLINGS[role]]
        return next((token for token in tokens if token != sp.unk_id()), None)

    roles = {
        "end_of_document": known(sp.eos_id()),
        "beginning_of_document": known(sp.bos_id()),
        "unknown": known(sp.unk_id()),
        "pad": known(sp.pad_id()),
        **{role: spelled(role) for role in ROLES[ROLES.index("mask") :]},
    }
    return Description("sentencepiece", "unknown", roles)
