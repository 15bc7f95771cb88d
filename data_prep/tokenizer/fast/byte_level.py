"""Byte-level BPE by the `gigatoken` library, for the vocabularies and texts where its ids are shown to be the same.

BPE works on one pre-token at a time, so a text has the ids of the reference if both cut it alike and make the same of
each pre-token. `equality` shows it of a vocabulary: each piece, and each short string of the classes of characters that
patterns tell apart. Characters count as ones of their class after they were compared (`compared_characters`). Special
tokens are kept out of gigatoken's vocabulary, so that their spelling is text. Texts with a token that is found in text
go to the reference library, as does what stands around a character of which nothing is shown (`space_cuts`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from configs.memory import give_back_freed_memory, host_memory_bytes
from data_prep.tokenizer.engines import Engine
from data_prep.tokenizer.fast.compared_characters import ComparedCharacters, Runs
from data_prep.tokenizer.fast.equality import differing_characters, first_difference
from data_prep.tokenizer.fast.gigatoken_rows import encoded_lists, encoded_rows
from data_prep.tokenizer.fast.space_cuts import is_cut_before_spaces, joins_spaces, parts_around

_WORTH_CHARS = 1 << 15  # below this, the comparison takes longer than the reference library
_GROWTH_BYTES = 48 << 20  # of the process, since the first encoder was made: more than all words of most texts take
_LOOKED_AT_CHARS = 8 << 20  # of text between two looks at it; where each word is new, they take about as many bytes
_ASCII = [chr(point) for point in range(0x80)]
VERSION = "0.10"
"""What the fuzz of `benchmarks.tokenization_equality` was run with."""


@dataclass(frozen=True)
class ShownVocabulary:
    """What was shown of a vocabulary.

    Attributes:
        make: number of the encoder that gives the same ids.
        characters: what is known of each.
        is_cut_before_spaces: whether a text may be cut there.
    """

    make: int
    characters: Runs
    is_cut_before_spaces: bool


class ByteLevelEngine(Engine):
    """Gigatoken with the reference library beside it.

    Args:
        reference: the vocabulary's own library.
        make: gigatoken's encoders that might be of the vocabulary; the first that gives the same ids is taken.
        pieces: gives the vocabulary in UTF-8, without special tokens.
        special: spellings of special tokens.
        found_in_text: spellings of tokens that the reference finds in text.
        is_normalized: whether the reference composes characters (NFC) first.
        shown: what another process showed of the same vocabulary.
    """

    def __init__(
        self,
        reference: Engine,
        make: Sequence[Callable[[], Any]],
        pieces: Callable[[], Sequence[bytes]],
        special: Sequence[str] = (),
        found_in_text: Sequence[str] = (),
        is_normalized: bool = False,
        shown: ShownVocabulary | None = None,
    ) -> None:
        self.name = reference.name
        self._reference = reference
        self._make, self._pieces, self._special = make, pieces, special
        self.found_in_text, self.is_normalized = tuple(found_in_text), is_normalized
        self._found_in_text = re.compile("|".join(map(re.escape, found_in_text))) if found_in_text else None
        self._encoder: Any = None
        self._made_bytes: int | None = None  # what the process held when the first encoder was made
        self._unlooked_chars = 0
        self._reason: str | None = None
        self._characters = ComparedCharacters(self._differing, shown.characters if shown else None)
        self._shown = shown

    def shown(self) -> ShownVocabulary | None:
        """What is shown of the vocabulary; None: the reference library makes all ids."""
        if self.why_not() is not None or self._shown is None:
            return None
        return ShownVocabulary(self._shown.make, self._characters.runs(), self._shown.is_cut_before_spaces)

    def why_not(self) -> str | None:
        """Why the reference library makes all ids; None: gigatoken makes them."""
        if self._shown is not None or self._reason is not None:
            return self._reason
        pieces = self._pieces()
        deciding = [*_texts(pieces, self.found_in_text), *_spelled(self._special)]
        for number, make in enumerate(self._make):
            try:
                encoder = make()
            except Exception as error:
                self._reason = self._reason or f"gigatoken cannot use the vocabulary: {str(error).splitlines()[0]}"
                continue
            other = partial(self._lists, encoder)
            differs = first_difference(self._reference.lists, other, deciding)
            if differs is None:
                differs = next(iter(differing_characters(self._reference.lists, other, _ASCII)), None)
            if differs is None:
                self._encoder, self._reason = encoder, None
                self._characters.compare_assigned()
                is_cut = not joins_spaces(pieces) and is_cut_before_spaces(self._reference.lists)
                self._shown = ShownVocabulary(number, [], is_cut)
                give_back_freed_memory()
                self._made_bytes = host_memory_bytes()
                return None
            self._reason = f"gigatoken gives other ids for {differs!r}"
        self._make = ()
        return self._reason

    def make_room(self) -> None:
        """Hold no encoder until there is text again, and measure anew then what this process holds beside its words."""
        self._encoder = self._made_bytes = None
        give_back_freed_memory()

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
        split = {number: parts for number, text in enumerate(texts) if (parts := self._unshown_parts(text))}
        self._bound_memory(texts)
        if not split:
            return _flat(self._encoder, texts, append)
        parts = [part for number, text in enumerate(texts) for part in split.get(number, [(text, False)])]
        found: dict[bool, list[np.ndarray]] = {}
        for unshown in (True, False):  # the reference first: what loads it may let the encoder go
            chosen = [text for text, is_unshown in parts if is_unshown is unshown]
            if chosen:
                ids, lengths = self._reference.flat(chosen) if unshown else _flat(self._held(), chosen)
                found[unshown] = np.split(ids, np.cumsum(lengths)[:-1])[::-1]
        in_order = [found[is_unshown].pop() for _, is_unshown in parts]
        counts = np.array([len(split.get(number, (0,))) for number in range(len(texts))])
        lengths = np.add.reduceat(list(map(len, in_order)), np.cumsum(counts) - counts)
        return _with_end(np.concatenate(in_order), lengths, append)

    def _unshown_parts(self, text: str) -> list[tuple[str, bool]] | None:
        """A text in parts, and which of them are for the reference library; None: gigatoken gets it as it is."""
        if self._found_in_text is not None and self._found_in_text.search(text):
            return [(text, True)]
        if text.isascii():
            return None
        if self.is_normalized and not unicodedata.is_normalized("NFC", text):
            return [(text, True)]
        places = self._characters.places(text)
        if not len(places):
            return None
        return parts_around(text, places) if self._shown and self._shown.is_cut_before_spaces else [(text, True)]

    def _bound_memory(self, texts: Sequence[str]) -> None:
        """Make the encoder, anew where it holds much: gigatoken remembers each pre-token that it ever saw, for good."""
        self._unlooked_chars += sum(map(len, texts))
        if self._encoder is not None and self._unlooked_chars >= _LOOKED_AT_CHARS:
            self._unlooked_chars = 0
            freed_bytes = self._reference.let_go_if_unused()
            if self._made_bytes is not None:
                self._made_bytes -= freed_bytes
            if self._has_grown():
                give_back_freed_memory()
                if self._has_grown():
                    self._encoder = None  # before the new one, not beside it
        self._held()

    def _has_grown(self) -> bool:
        return self._made_bytes is not None and host_memory_bytes() - self._made_bytes > _GROWTH_BYTES

    def _held(self) -> Any:
        """The encoder."""
        if self._encoder is None:
            assert self._shown is not None
            self._encoder = self._make[self._shown.make]()
            give_back_freed_memory()
            # What a later one holds is no new measure: the allocator gives memory back late, or to the next encoder.
            if self._made_bytes is None:
                self._made_bytes = host_memory_bytes()
        return self._encoder

    def _lists(self, encoder: Any, texts: Sequence[str]) -> list[list[int]]:
        if self.is_normalized:
            texts = [unicodedata.normalize("NFC", text) for text in texts]  # others never come to it
        return encoded_lists(encoder, texts)

    def _is_worth(self, texts: Sequence[str]) -> bool:
        if self._shown is None and (self._reason is not None or sum(map(len, texts)) < _WORTH_CHARS):
            return False
        return self.why_not() is None

    def _differing(self, chars: Sequence[str]) -> list[str]:
        # The reference first, as in `flat`.
        return differing_characters(self._reference.lists, lambda texts: self._lists(self._held(), texts), chars)


def _texts(pieces: Iterable[bytes], found_in_text: Sequence[str]) -> list[str]:
    """The pieces that are whole characters, without those in which the reference finds a token."""
    texts = [piece.decode("utf-8", "ignore") for piece in pieces]
    whole = [text for text, piece in zip(texts, pieces) if text and len(text.encode()) == len(piece)]
    return [text for text in whole if not any(found in text for found in found_in_text)]


def _spelled(special: Sequence[str]) -> list[str]:
    """Special tokens, which text does not spell, in surroundings."""
    return [around.format(name) for name in special for around in ("{}", " {} ", "a{}\n", "\n{}b")]


def gigatoken_library() -> Any:
    """Its compiled part; None if it is not installed in a version that was compared."""
    try:
        from importlib.metadata import version

        from gigatoken import gigatoken_rs
    except ImportError:
        return None
    return gigatoken_rs if version("gigatoken").startswith(f"{VERSION}.") else None


def _flat(encoder: Any, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    return _with_end(*encoded_rows(encoder, texts), append)


def _with_end(ids: np.ndarray, lengths: np.ndarray, append: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Ids of texts with one more behind each."""
    if append is None:
        return ids, lengths
    return np.insert(ids, np.cumsum(lengths), append), lengths + 1
