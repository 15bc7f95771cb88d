"""Whether a piece of a vocabulary begins a word, for masking whole words."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from configs.errors import DataError

# Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han with its extensions.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""A character of a script that is written without spaces."""


def begins_word(piece: bytes) -> bool:
    """Whether text that continues with `piece` begins a word there: with white space, or in a script without spaces.

    Args:
        piece: UTF-8 that may begin or end inside a character. Where the first character is cut off, it is taken for
            of a script without spaces if both the first and the last character that begin so are. An empty piece,
            which no text is encoded as, stands alone.
    """
    if not piece:
        return True
    size = _size_of_character(piece[0])
    first = piece[:size]
    missing = size - len(first)
    try:
        possible = [(first + bytes([fill]) * missing).decode() for fill in (0x80, 0xBF)]
    except UnicodeDecodeError:
        return False
    return all(char.isspace() or _is_unspaced(char) for char in possible)


def byte_of(piece: str) -> bytes:
    """The byte that a piece such as `<0x0A>` stands for."""
    return bytes([int(piece[3:5], 16)])


def unmarked_words(path: Path, reason: str) -> DataError:
    """What to raise for a vocabulary that does not mark where words begin."""
    return DataError(
        f"does not mark where words begin: {reason}",
        where=path,
        expected="for whole words, a vocabulary whose pieces begin with their space, or WordPiece",
    )


def _size_of_character(first_byte: int) -> int:
    """Bytes of a UTF-8 character by its first byte; 1 also for bytes that begin none."""
    return 1 + (first_byte >= 0xC2) + (first_byte >= 0xE0) + (first_byte >= 0xF0)


def _is_unspaced(char: str) -> bool:
    # Vowel signs and tones belong to the letter before them.
    return bool(UNSPACED.match(char)) and not unicodedata.category(char).startswith("M")
