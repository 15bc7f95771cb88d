"""Words of texts, also in scripts without spaces between them, whose characters count one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from data_prep.tokenizer.word_starts import UNSPACED

_ENOUGH_UNSPACED = 0.2
"""Share of the letters above which words between white space would be whole sentences too often."""


# A character of a script without spaces, a run of other letters and digits, or another character.
_WORD = re.compile(rf"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})\w)+|\S")


def words_in(text: str) -> list[re.Match[str]]:
    """The words of a text with their places: runs of letters and digits, and all other characters one by one."""
    return list(_WORD.finditer(text))


def gaps_before(text: str, words: list[re.Match[str]]) -> list[str]:
    """What stands in front of each word of a text."""
    ends = [0, *(match.end() for match in words)]
    return [text[end : match.start()] for end, match in zip(ends, words)]


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether enough of the letters of some texts are of scripts written without spaces (Chinese, Japanese, Thai)."""
    letters = unspaced = 0
    for text in texts:
        letters += len("".join(text.split()))
        unspaced += len(UNSPACED.findall(text))
    return unspaced > _ENOUGH_UNSPACED * letters
