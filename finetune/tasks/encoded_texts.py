"""Labelled texts as numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncodedTexts:
    """Labelled texts as numbers.

    Attributes:
        rows: token ids of each, cut to the longest that is read.
        gold: number of each label.
        pad: id of the pad token.
        cut: how many texts were longer.
    """

    rows: list[list[int]]
    gold: list[int]
    pad: int
    cut: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.rows]

    @property
    def weights(self) -> list[float]:
        """Each text counts once."""
        return [1.0] * len(self.rows)
