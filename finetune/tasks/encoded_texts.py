"""Labelled texts as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EncodedTexts:
    """Labelled texts as numbers.

    Attributes:
        rows: token ids of each, cut to the longest that is read.
        gold: of each the right answer as its problem has it: a label's number, a list of them, or a number.
        pad: id of the pad token.
        cut: how many texts were longer.
        types: the token type of each id, of pairs; None of single texts.
        ids: that name the texts.
    """

    rows: list[list[int]]
    gold: list[Any]
    pad: int
    cut: int
    types: list[list[int]] | None = None
    ids: Sequence[str] = ()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.rows]

    @property
    def weights(self) -> list[float]:
        """Each text counts once."""
        return [1.0] * len(self.rows)
