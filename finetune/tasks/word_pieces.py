"""Words of texts -> the tokens of each, cut as the tokenizer cuts the running text wherever that is possible."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune.text_codec import TextCodec


class TextOfWords(Protocol):
    """A text as words."""

    @property
    def words(self) -> Sequence[str]:
        """The words, in order."""
        ...

    @property
    def gaps(self) -> Sequence[str]:
        """What stands in front of each word."""
        ...


@dataclass(frozen=True)
class WordPieces:
    """The tokens of words.

    Attributes:
        rows: for each text the tokens of each of its words, with the gap before it; of some words there may be none.
        apart: texts that the tokenizer cuts otherwise as running text, because it joins characters across words: the
            tokens of these are those of each word on its own.
    """

    rows: list[list[list[int]]]
    apart: int


def encode_words(codec: TextCodec, texts: Sequence[TextOfWords]) -> WordPieces:
    """The tokens of the words of each text.

    Args:
        codec: the tokenizer.
        texts: as words.
    """
    whole = codec.encode_batch(["".join(map("".join, zip(text.gaps, text.words))) for text in texts])
    segments = [[gap + word for gap, word in zip(text.gaps, text.words)] for text in texts]
    with_gaps = _encode_each(codec, (segment for row in segments for segment in row))
    rows = [[with_gaps[segment] for segment in row] for row in segments]
    other = [number for number, row in enumerate(rows) if _joined(row) != whole[number]]
    # A tokenizer that puts a space before every text puts a second one before a segment that begins with its own.
    bare = _encode_each(codec, (word for number in other for word in texts[number].words))
    apart = 0
    for number in other:
        alone = [bare[word] for word in texts[number].words]
        if _joined(alone) == whole[number]:
            rows[number] = alone
        else:
            apart += 1
    return WordPieces(rows, apart)


def _joined(row: Iterable[Sequence[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(row))


def _encode_each(codec: TextCodec, segments: Iterable[str]) -> dict[str, list[int]]:
    distinct = list(dict.fromkeys(segments))
    return dict(zip(distinct, codec.encode_batch(distinct) if distinct else []))
