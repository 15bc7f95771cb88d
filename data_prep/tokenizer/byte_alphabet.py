"""Byte-level vocabularies write each byte as a printable character: the table of GPT-2, both ways."""

from __future__ import annotations

from functools import cache


def to_byte_alphabet(data: bytes) -> str:
    """Bytes as such a vocabulary writes them."""
    alphabet = _alphabet()
    return "".join(alphabet[byte] for byte in data)


def from_byte_alphabet(piece: str) -> bytes:
    """The bytes that a piece of such a vocabulary stands for; characters outside the table as UTF-8."""
    values = _values()
    return b"".join(bytes([values[char]]) if char in values else char.encode() for char in piece)


@cache
def _alphabet() -> tuple[str, ...]:
    # Printable Latin-1 stands for itself; the other bytes take the characters from U+0100 on, in order.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


@cache
def _values() -> dict[str, int]:
    return {char: byte for byte, char in enumerate(_alphabet())}
