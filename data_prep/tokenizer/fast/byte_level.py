"""Byte-level BPE by the `gigatoken` library, for the vocabularies and texts where its ids are shown to be the same.

BPE works on one pre-token at a time, so a text has the ids of the reference if both cut it alike and make the same of
each pre-token. `equality` shows it of a vocabulary: each piece, and each short string of the classes of characters that
patterns tell apart. Characters count as ones of their class after they were compared (`compared_characters`), when a
text first holds them. Special tokens are kept out of gigatoken's vocabulary, so that their spelling is text. Texts with
a token or character of which nothing is shown go to the reference library.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from configs.memory import host_memory_bytes
from data_prep.tokenizer.engines import Engine, join
from data_prep.tokenizer.fast.compared_characters import ComparedCharacters
from data_prep.tokenizer.fast.equality import differing_characters, first_difference

_WORTH_CHARS = 1 << 15  # below this, the comparison takes longer than the reference library
_GROWTH_BYTES = 64 << 20  # of the process, since the first encoder was made: more than all words of most texts take
_LOOKED_AT_CHARS = 8 << 20  # of text between two looks at it; where each word is new, they take about as many bytes
_ASCII = [chr(point) for point in range(0x80)]
VERSION = "0.10"
"""What the fuzz of `benchmarks.tokenization_equality` was run with."""


class ByteLevelEngine(Engine):
    """Gigatoken with the reference library beside it.

    Args:
        reference: the vocabulary's own library.
        make: gigatoken's encoders that might be of the vocabulary; the first that gives the same ids is taken.
        pieces: gives the vocabulary as text.
        found_in_text: spellings of tokens that the reference finds in text.
        is_normalized: whether the reference composes characters (NFC) first.
    """

    def __init__(
        self,
        reference: Engine,
        make: Sequence[Callable[[], Any]],
        pieces: Callable[[], Sequence[str]],
        found_in_text: Sequence[str] = (),
        is_normalized: bool = False,
    ) -> None:
        self.name = reference.name
        self._reference = reference
        self._make, self._pieces = make, pieces
        self._found_in_text = re.compile("|".join(map(re.escape, found_in_text))) if found_in_text else None
        self._is_normalized = is_normalized
        self._encoder: Any = None
        self._made_bytes = self._unlooked_chars = 0
        self._reason: str | None = None
        self._characters = ComparedCharacters(self._differing)

    def why_not(self) -> str | None:
        """Why the reference library makes all ids; None: gigatoken makes them."""
        if self._encoder is not None or self._reason is not None:
            return self._reason
        pieces = self._pieces()
        for make in self._make:
            try:
                encoder = make()
            except Exception as error:
                self._reason = self._reason or f"gigatoken cannot use the vocabulary: {str(error).splitlines()[0]}"
                continue
            other = partial(self._lists, encoder)
            differs = first_difference(self._reference.lists, other, pieces)
            if differs is None:
                differs = next(iter(differing_characters(self._reference.lists, other, _ASCII)), None)
            if differs is None:
                self._encoder, self._make, self._reason = encoder, (make,), None
                self._made_bytes = host_memory_bytes()
                return None
            self._reason = f"gigatoken gives other ids for {differs!r}"
        self._make = ()
        return self._reason

    def explain(self) -> str:
        """As `Engine.explain`."""
        reason = self.why_not()
        if reason is not None:
            return f"using {self.name} alone: {reason}"
        return f"using gigatoken: its ids are those of {self.name} for every piece and class of characters"

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        if not self._is_worth(texts):
            return self._reference.lists(texts)
        ids, lengths = self.flat(texts)
        return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.flat`."""
        if not self._is_worth(texts):
            return self._reference.flat(texts, append)
        self._bound_memory(texts)
        left = [number for number, text in enumerate(texts) if not text.isascii() and self._differs(text)]
        if self._found_in_text is not None:
            left += [number for number, text in enumerate(texts) if self._found_in_text.search(text)]
        if not left:
            return _flat(self._encoder, texts, append)
        rest = set(left)
        shown = [number for number in range(len(texts)) if number not in rest]
        parts: list[np.ndarray] = [np.empty(0, np.int32)] * len(texts)
        for numbers, (ids, lengths) in (
            (shown, _flat(self._encoder, [texts[number] for number in shown])),
            (sorted(rest), self._reference.flat([texts[number] for number in sorted(rest)])),
        ):
            for number, part in zip(numbers, np.split(ids, np.cumsum(lengths)[:-1])):
                parts[number] = part
        return join(parts, append)

    def _bound_memory(self, texts: Sequence[str]) -> None:
        """Make the encoder anew where it holds much: gigatoken remembers each pre-token that it ever saw, for good."""
        self._unlooked_chars += sum(map(len, texts))
        if self._unlooked_chars < _LOOKED_AT_CHARS:
            return
        self._unlooked_chars = 0
        if host_memory_bytes() - self._made_bytes > _GROWTH_BYTES:
            self._encoder = None  # before the new one, not beside it
            # What it holds now is no new measure: the allocator gives memory back late, or to the next encoder.
            self._encoder = self._make[0]()

    def _lists(self, encoder: Any, texts: Sequence[str]) -> list[list[int]]:
        if self._is_normalized:
            texts = [unicodedata.normalize("NFC", text) for text in texts]  # others never come to it
        found: list[list[int]] = encoder.encode_batch_list(list(texts), parallel=False)
        return found

    def _is_worth(self, texts: Sequence[str]) -> bool:
        if self._encoder is None and (self._reason is not None or sum(map(len, texts)) < _WORTH_CHARS):
            return False
        return self.why_not() is None

    def _differs(self, text: str) -> bool:
        """Whether a text holds what the two libraries may treat differently."""
        composed = not self._is_normalized or unicodedata.is_normalized("NFC", text)
        return self._characters.differ(text) or not composed

    def _differing(self, chars: Sequence[str]) -> list[str]:
        return differing_characters(self._reference.lists, partial(self._lists, self._encoder), chars)


def gigatoken_library() -> Any:
    """Its compiled part; None if it is not installed in a version that was compared."""
    try:
        from importlib.metadata import version

        from gigatoken import gigatoken_rs
    except ImportError:
        return None
    return gigatoken_rs if version("gigatoken").startswith(f"{VERSION}.") else None


def _flat(encoder: Any, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    layout = encoder.encode_batch(list(texts), parallel=False).layout
    offsets = np.asarray(layout.offsets.data, np.int64)
    ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]].view(np.int32)
    lengths = np.diff(offsets)
    if append is not None:
        ids, lengths = np.insert(ids, offsets[1:] - offsets[0], append), lengths + 1
    return ids, lengths
