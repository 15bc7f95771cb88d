"""What is asked of text before it is written or encoded."""

from __future__ import annotations

from configs.errors import DataError


def refuse_undecodable(text: str, where: str) -> None:
    """Refuse text that is not Unicode: Python keeps undecodable bytes of a command line as lone surrogates.

    Raises:
        DataError: names the first of them.
    """
    found = next((at for at, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if found is not None:
        number = ord(text[found])
        # 0xDC80 and above: where the surrogateescape handler puts a byte.
        what = (
            f"the byte 0x{number - 0xDC00:02X}" if 0xDC80 <= number <= 0xDCFF else f"half a character, U+{number:04X}"
        )
        raise DataError(f"holds {what} at character {found + 1}", where=where, expected="text in UTF-8")
