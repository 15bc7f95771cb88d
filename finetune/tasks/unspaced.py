"""Texts of scripts without spaces between words: figures and baselines count their characters."""

from __future__ import annotations

from collections.abc import Iterable

from data_prep.tokenizer.word_starts import UNSPACED

_ENOUGH_UNSPACED = 0.2
"""Share of the letters above which words between white space would be whole sentences too often."""


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether enough of the letters of some texts are of scripts written without spaces (Chinese, Japanese, Thai)."""
    letters = unspaced = 0
    for text in texts:
        letters += len("".join(text.split()))
        unspaced += len(UNSPACED.findall(text))
    return unspaced > _ENOUGH_UNSPACED * letters
