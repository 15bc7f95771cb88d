"""A text as the words that an augmentation changes, in scripts with and without spaces."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from configs.errors import ConfigError
from configs.extras import install_command
from data_prep.tokenizer.word_starts import UNSPACED
from finetune.tasks.unspaced import words_in

_CHINESE = range(0x3400, 0xA000)


@dataclass(frozen=True)
class Segmenter:
    """Cuts texts into words and what stands before them.

    Attributes:
        chinese: whether a Chinese character is a word, or what jieba finds.
        known: words of scripts without spaces that are one word wherever they stand, the longest first.
    """

    chinese: Literal["characters", "jieba"] = "characters"
    known: Collection[str] = ()
    _longest: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        if self.chinese == "jieba":
            _import_jieba()
        object.__setattr__(self, "_longest", max(map(len, self.known), default=1))

    def split(self, text: str) -> list[tuple[str, str]]:
        """What stands before each word, and the word; what follows the last is a word that is empty."""
        found, end = list[tuple[str, str]](), 0
        for start, stop in self._spans(text):
            found.append((text[end:start], text[start:stop]))
            end = stop
        return [*found, (text[end:], "")] if end < len(text) else found

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        run: list[tuple[int, int]] = []  # of characters without spaces between them
        for match in words_in(text):
            span = match.span()
            if run and (span[0] != run[-1][1] or not UNSPACED.fullmatch(match.group())):
                yield from self._joined(text, run)
                run = []
            if UNSPACED.fullmatch(match.group()):
                run.append(span)
            else:
                yield span
        yield from self._joined(text, run)

    def _joined(self, text: str, run: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Neighbouring characters as words."""
        if not run:
            return
        start, end = run[0][0], run[-1][1]
        if self.chinese == "jieba" and ord(text[start]) in _CHINESE:
            import jieba

            for word in jieba.lcut(text[start:end]):
                yield start, start + len(word)
                start += len(word)
            return
        while start < end:
            sizes = range(min(self._longest, end - start), 1, -1)
            size = next((size for size in sizes if text[start : start + size] in self.known), 1)
            yield start, start + size
            start += size


def joined(pieces: list[tuple[str, str]]) -> str:
    """The text of words and what stands before them."""
    return "".join(gap + word for gap, word in pieces)


def _import_jieba() -> None:
    import logging
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jieba
    except ImportError:
        raise ConfigError(
            "needs jieba, which is not installed",
            where="augmentation.chinese_words",
            expected=f"characters, or {install_command('chinese')}",
        ) from None
    jieba.setLogLevel(logging.WARNING)
