"""The changes of one text: a function of the seed, the example and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random

from finetune.augmentation.config import AugmentationConfig
from finetune.augmentation.noise import misread, mistyped
from finetune.augmentation.synonyms import Synonyms
from finetune.augmentation.words import Segmenter, joined


def random_of(seed: int, epoch: int, name: str, text: str) -> Random:
    """The random numbers of an example in an epoch, whichever rank asks and whatever was asked before."""
    digest = blake2b(f"{seed}\0{epoch}\0{name}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Random(int.from_bytes(digest, "big"))


class TextChanges:
    """Changes words and texts as a config says.

    Args:
        config: how much of a text is changed in which way.
        synonyms: where they come from; None where none are wanted.
    """

    def __init__(self, config: AugmentationConfig, synonyms: Synonyms | None) -> None:
        self.config, self.synonyms = config, synonyms
        self.segmenter = Segmenter(config.chinese_words, synonyms.known if synonyms is not None else ())

    def text(self, text: str, random: Random) -> str:
        """A text with words left out, exchanged, replaced and misspelt; at least one word stays."""
        config, pieces = self.config, self.segmenter.split(text)
        words = [place for place, (_, word) in enumerate(pieces) if word]
        left_out = self.left_out(len(words), random)
        kept = [pieces[place] for number, place in enumerate(words) if number not in left_out]
        tail = pieces[len(words) :]
        at = 0
        while config.swap and at + 1 < len(kept):
            if random.random() < config.swap:
                (gap, word), (other_gap, other) = kept[at], kept[at + 1]
                kept[at], kept[at + 1] = (gap, other), (other_gap, word)
                at += 1
            at += 1
        changed = [(gap, self.word(word, random)) for gap, word in kept]
        if changed and left_out:
            changed[0] = (pieces[0][0], changed[0][1])
        return joined([*changed, *tail])

    def left_out(self, count: int, random: Random, held: Sequence[bool] | None = None) -> set[int]:
        """The numbers of the words of a text that are left out; never all.

        Args:
            count: words of the text.
            random: decides.
            held: of each word whether it stays in any case; None: none does.
        """
        if not self.config.deletion:
            return set()
        chosen = {n for n in range(count) if random.random() < self.config.deletion and not (held and held[n])}
        if len(chosen) == count:
            chosen -= {random.randrange(count)} if count else set()
        return chosen

    def word(self, word: str, random: Random, *, one_word: bool = False) -> str:
        """A word, or a synonym of it, misspelt.

        Args:
            word: as it stands in the text.
            random: decides.
            one_word: whether synonyms of several words are left alone.
        """
        config = self.config
        if self.synonyms is not None and config.synonyms:
            others = [other for other in self.synonyms.of(word) if not (one_word and " " in other)]
            if others and random.random() < config.synonyms:
                word = _in_case(random.choice(others), word)
        if config.keyboard:
            word = mistyped(word, config.keyboard, random)
        if config.ocr:
            word = misread(word, config.ocr, random)
        return word


def _in_case(word: str, like: str) -> str:
    """A word with the capitals of another."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
