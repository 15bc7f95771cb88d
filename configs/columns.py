"""Text in columns of a terminal, where Chinese letters are two columns wide and accents none."""

from __future__ import annotations

from collections.abc import Sequence


def width(text: str) -> int:
    """Columns that a terminal shows of a text."""
    from rich.cells import cell_len

    return cell_len(text)


def to_left(text: str, columns: int) -> str:
    """A text with spaces after it, up to a width in columns."""
    return text + " " * (columns - width(text))


def to_right(text: str, columns: int) -> str:
    """A text with spaces before it, up to a width in columns."""
    return " " * (columns - width(text)) + text


def widest(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width in columns of each column of a table."""
    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def shorten(text: str, columns: int) -> str:
    """A text of at most so many columns: its beginning and `…`, if it has more."""
    if width(text) <= columns:
        return text
    kept = text
    while width(kept) > columns - 1:
        kept = kept[:-1]
    return kept + "…"


def shorten_left(text: str, columns: int) -> str:
    """A text of at most so many columns: `…` and its end, if it has more."""
    return shorten(text[::-1], columns)[::-1]
