"""What every tokenizer can do, whatever library its vocabulary comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_prep.tokenizer import parts
from data_prep.tokenizer.engines import Engine, EngineName, join
from data_prep.tokenizer.roles import (
    ROLES,
    VOCABULARY_FILES,
    Description,
    fingerprint_of,
    write_roles,
)


class Tokenizer(ABC):
    """Text to ids and back; `load_tokenizer` makes one.

    Attributes:
        kind: `sentencepiece`, `huggingface` or `tiktoken`.
        algorithm: `bpe`, `unigram`, `char`, `word` or `wordpiece`; `unknown` where the file does not tell.
        model_path: the vocabulary file, or the one that it is made of.
        vocabulary: contents of the vocabulary file.
        sentinels: ids that stand for masked spans, in order; often none.
        fingerprint: hash of the vocabulary and the roles; equal for tokenizers that give equal ids.
        engine: `auto`, the fast way where its ids are shown to be the library's, or `reference`, the library alone.
        library: the kind's own.
        extra: what else decides the ids (tiktoken: `pattern` and `special_tokens`).
    """

    kind: str
    vocab_size: int
    """Number of ids, gaps between them included."""

    def __init__(self, model_path: Path, vocabulary: bytes, description: Description, engine: EngineName) -> None:
        self.model_path = model_path
        self.vocabulary = vocabulary
        self.algorithm = description.algorithm
        self._roles = {name: description.roles.get(name) for name in ROLES}
        self.sentinels = list(description.sentinels)
        self.extra = dict(description.extra)
        self.fingerprint = fingerprint_of(vocabulary, self._roles, self.sentinels, self.extra)
        self.engine = engine
        reference = self._reference()
        self.library = reference.name
        self._engine = reference if engine == "reference" else self._fast(reference)

    @classmethod
    @abstractmethod
    def read(cls, model_path: Path, description: Description | None, engine: EngineName) -> Tokenizer:
        """A tokenizer of this kind; without a description, the roles are those that the files name."""

    def role(self, name: str) -> int | None:
        """The id that plays the role `name` (one of `ROLES`), or None when no id does.

        Raises:
            KeyError: if there is no such role.
        """
        return self._roles[name]

    def explain_engine(self) -> str:
        """Who makes the ids and why, for the user to read; compares libraries if that is still to do."""
        if self.engine == "reference":
            return f"using {self.library} alone, as asked"
        return self._engine.explain()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; text that looks like a special token stays text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; one call for many is faster than many calls.

        Raises:
            DataError: for text that is not Unicode (half of a surrogate pair).
        """
        special = self._special(texts)
        with parts.UnicodeOnly(texts):
            if not special:
                return self._engine.lists(texts)
            rest = set(special)
            plain = iter(self._engine.lists([text for number, text in enumerate(texts) if number not in rest]))
            return [
                self._encode_special(text).tolist() if number in rest else next(plain)
                for number, text in enumerate(texts)
            ]

    def encode_flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, one after the other, int32 [tokens], and how many each has, int64 [texts].

        The fastest way to encode. The ids are those of `encode_batch`.

        Args:
            texts: what to encode.
            append: an id to put after each text, counted in its length.

        Raises:
            DataError: for text that is not Unicode (half of a surrogate pair).
        """
        special = self._special(texts)
        with parts.UnicodeOnly(texts):
            if not special:
                return self._engine.flat(texts, append)
            rest = set(special)
            plain = [text for number, text in enumerate(texts) if number not in rest]
            ids, lengths = self._engine.flat(plain) if plain else (np.empty(0, np.int32), np.empty(0, np.int64))
            shown = iter(np.split(ids, np.cumsum(lengths)[:-1]))
            # As arrays: the ids of a long text as a list of Python's numbers would take ten times the memory.
            found = (self._encode_special(text) if number in rest else next(shown) for number, text in enumerate(texts))
            return join(list(found), append)

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens decode to nothing, incomplete UTF-8 to U+FFFD."""

    @abstractmethod
    def piece(self, token: int) -> str:
        """How the vocabulary writes the id `token`, spaces as they are."""

    @abstractmethod
    def find(self, spelling: str) -> int | None:
        """The id of the piece or special token that is spelled so, None if there is none."""

    @abstractmethod
    def is_special(self, token: int) -> bool:
        """Whether no text is ever encoded as this id."""

    @abstractmethod
    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for, int32 [vocab_size]; special tokens 0, byte pieces 1."""

    @abstractmethod
    def byte_tokens(self) -> np.ndarray:
        """Which ids write a part of a character that the vocabulary lacks, bool [vocab_size]."""

    @abstractmethod
    def word_starts(self) -> np.ndarray:
        """Which ids begin a word, bool [vocab_size]; the others continue the word of the token before them.

        A word is a run between white space, with its punctuation. What begins one: pieces that begin with white space
        (of a byte-level or SentencePiece vocabulary, byte pieces of a line break included), pieces of a WordPiece
        vocabulary without its `##`, and special tokens, user-defined ones too, which stand alone. Scripts without
        spaces (Chinese, Japanese, Thai, ...) would be one word up to the next space: there, each piece that begins
        with a character of such a script begins a word (as each character does for BERT, each piece for ALBERT);
        marks, punctuation and bytes inside a character continue it.

        The first word of a text need not begin with a space: a token at the start of a document, or after a special
        one, begins a word whatever its id. That is for the reader of the ids to add.

        Raises:
            DataError: if the vocabulary does not mark where words begin (only where they end, or not at all).
        """

    def copy_to(self, directory: Path) -> None:
        """Write this tokenizer's two files into `directory`, which is made if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / VOCABULARY_FILES[self.kind]).write_bytes(self.vocabulary)
        write_roles(directory, self.algorithm, self._roles, self.sentinels, self.fingerprint, self.kind, self.extra)

    @abstractmethod
    def _reference(self) -> Engine: ...

    @abstractmethod
    def _fast(self, reference: Engine) -> Engine:
        """What gives the ids of the reference faster; `Slow` where nothing does."""

    def _special(self, texts: Sequence[str]) -> list[int]:
        """Numbers of the texts that an engine may not get as they are."""
        limit = parts.LONG_CHARS
        return [number for number, text in enumerate(texts) if len(text) > limit]

    def _encode_special(self, text: str) -> np.ndarray:
        """Ids of a text that the engine may not get in one call, int32."""
        cuts = parts.cut_at_line_starts(text) if self._may_be_cut() else iter([text])
        return join([self._engine.flat([part])[0] for part in cuts])[0]

    def _may_be_cut(self) -> bool:
        """Whether the second line of a text has the same ids on its own."""
        samples = ("The first.\n", "x = 1;\r\n", "\n\n", "(a)\n"), ("Second", "9 lives", "été", "日本")
        pairs = [(first, second) for first in samples[0] for second in samples[1]]
        whole = self._engine.lists([first + second for first, second in pairs])
        firsts, seconds = (self._engine.lists([pair[side] for pair in pairs]) for side in (0, 1))
        return whole == [first + second for first, second in zip(firsts, seconds)]
