"""Texts too long for one call of an engine, cut where the ids stay the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from configs.errors import DataError

LONG_CHARS = 1 << 18
"""Texts above this go in bit by bit: engines keep several words of state per character."""
# A line break and what follows it are never one piece where a letter or digit follows.
_LINE_START = re.compile(r"(?<=\n)(?=[^\W_])")


def cut_at_spaces(text: str, long_chars: int | None = None) -> Iterator[str]:
    """Parts of at most about `LONG_CHARS`, each ending before a run of spaces.

    For vocabularies whose pieces are words that begin with their space; a text without spaces stays whole.
    """
    limit = LONG_CHARS if long_chars is None else long_chars
    start = 0
    while len(text) - start > limit and (end := _before_spaces(text, start, start + limit)):
        yield text[start:end]
        start = end
    if start < len(text) or not text:
        yield text[start:]


def cut_at_line_starts(text: str, long_chars: int | None = None) -> Iterator[str]:
    """Parts of at least `LONG_CHARS`, each ending where a letter or digit begins the next line.

    For vocabularies whose pieces may join line breaks and spaces; a text without such a place stays whole.
    """
    limit = LONG_CHARS if long_chars is None else long_chars
    start = 0
    while len(text) - start > limit and (found := _LINE_START.search(text, start + limit)):
        yield text[start : found.start()]
        start = found.start()
    if start < len(text) or not text:
        yield text[start:]


def _before_spaces(text: str, start: int, stop: int) -> int:
    """Before the last run of spaces; 0 if there is none."""
    space = text.rfind(" ", start + 1, stop)
    while space > start + 1 and text[space - 1] == " ":
        space -= 1
    return space if space > start + 1 else 0


class UnicodeOnly:
    """A block that encodes `texts`; says which of them is not Unicode if that is what a library stumbles over."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, UnicodeEncodeError | TypeError):
            return
        for text in self.texts:
            try:
                text.encode()
            except UnicodeEncodeError as found:
                raise DataError(
                    f"holds half of a surrogate pair, U+{ord(text[found.start]):04X}, at character {found.start + 1}",
                    where=repr(text[max(0, found.start - 20) : found.start]),
                    expected="Unicode text",
                ) from None
