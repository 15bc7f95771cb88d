"""Tagged texts as numbers: windows of tokens, and at which token each word is judged.

Shape letters: R windows, S tokens, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune import batches
from finetune.tasks.windows import speakers, windows
from finetune.tasks.word_pieces import encode_words

if TYPE_CHECKING:
    import torch

    from finetune.tasks.tagged_texts import TaggedText
    from finetune.text_codec import TextCodec
    from finetune.text_template import TextTemplate


@dataclass(frozen=True)
class Window:
    """A part of a text that is read at once.

    Attributes:
        row: token ids, special ones included.
        positions: in the row, of the first token of each word that is judged here.
        words: the numbers of these words.
    """

    row: list[int]
    positions: list[int]
    words: list[int]


@dataclass(frozen=True)
class EncodedTags:
    """Tagged texts as numbers.

    Attributes:
        windows: of each text; each of its words is judged in one of them, unless it has no token.
        gold: number of each word's tag; -1 for one that training never saw.
        gold_tags: the tags themselves.
        pad: id of the pad token.
        apart: texts whose words were encoded each on its own, see `WordPieces`.
        without_token: words of which the tokenizer makes nothing.
        cut: words that are longer than a window.
    """

    windows: list[list[Window]]
    gold: list[list[int]]
    gold_tags: list[tuple[str, ...]]
    pad: int
    apart: int
    without_token: int
    cut: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text, those that windows share counted in each."""
        return [sum(len(window.row) for window in found) for found in self.windows]

    @property
    def weights(self) -> list[float]:
        """How many words of each text have a loss."""
        return [
            float(sum(gold[word] >= 0 for window in found for word in window.words))
            for found, gold in zip(self.windows, self.gold)
        ]

    def rows(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask of all windows of some texts, int64 [R, S]."""
        return batches.collate([window.row for number in numbers for window in self.windows[number]], self.pad)

    def places(self, numbers: Sequence[int]) -> list[tuple[int, int, int, int]]:
        """Of each word that is judged: its row and its position there, which of `numbers` its text is, its number."""
        found, row = [], 0
        for at, number in enumerate(numbers):
            for window in self.windows[number]:
                found += [(row, place, at, word) for place, word in zip(window.positions, window.words)]
                row += 1
        return found


def encode_tagged(
    texts: Sequence[TaggedText], codec: TextCodec, template: TextTemplate, stride: int, labels: Sequence[str]
) -> EncodedTags:
    """Tagged texts as numbers.

    Args:
        texts: with words, and their tags in `labels` or not.
        codec: the tokenizer.
        template: what stands around the tokens of a window, and how many there are at most.
        stride: tokens that windows share, at most, and at most half of a window.
        labels: in the order of their numbers.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    pieces, stride = encode_words(codec, texts), min(stride, template.room // 2)
    every_word = [ids for row in pieces.rows for ids in row]
    return EncodedTags(
        [_windows(row, template, stride) for row in pieces.rows],
        [[numbers.get(tag, -1) for tag in text.tags] for text in texts],
        [text.tags for text in texts],
        template.pad,
        pieces.apart,
        sum(not ids for ids in every_word),
        sum(len(ids) > template.room for ids in every_word),
    )


def _windows(words: list[list[int]], template: TextTemplate, stride: int) -> list[Window]:
    found = windows([min(len(ids), template.room) for ids in words], template.room, stride)
    spoken_for = speakers(found, len(words))
    made = []
    for number, (start, end) in enumerate(found):
        tokens: list[int] = []
        positions, judged = [], []
        for word in range(start, end):
            if spoken_for[word] == number and words[word]:
                positions.append(len(tokens) + (template.before is not None))
                judged.append(word)
            tokens += words[word][: template.room]
        made.append(Window(template.apply(tokens), positions, judged))
    return made
