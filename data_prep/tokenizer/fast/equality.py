"""Whether two libraries give equal ids: all pieces, all short strings of character classes, characters in surroundings.

The patterns that cut text for byte-level BPE see a character only through its class (letter, digit, mark, white space,
line break, apostrophe, ...) and through a few spelled contractions, and look one character ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

Encode = Callable[[Sequence[str]], list[list[int]]]

_CLASSES = (
    "a", "Z", "s", "é", "中", "ǅ", "ʰ", "1", "²", "'", " ", "\n", "\r", "\t", "\u00a0", "!", "/", "_", "\u0301", "😀",
    "\u200d", "\x00", "\x85",
)  # fmt: skip
_CORE = ("a", "Z", "中", "1", "'", " ", "\n", "\r", "\t", "!", "/", "\u0301")
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'VE", "'M", "'LL", "'D", "'lL", "'x")
_SURROUNDINGS = (
    "{}", "a{}", "Z{}", "{}a", "{}Z", "1{}", "{}1", " {}", "{} ", "  {}", "{}  a", "\n{}", "{}\n", "{}\r\n\n", "\t{}",
    "!{}", "{}!", "/{}", "{}/", "'{}", "{}'s", "'l{}", "'{}e", "'{}l", "'r{}", "'v{}", "\u0301{}", "{}\u0301", "中{}",
    "{0}{0}{0}{0}{0}{0}{0}", "a{}b", " a{}Z", "Z{}a", "\n {}", " {}\n a", "1{}1", "!{}\n/", "Aa{}Aa",
)  # fmt: skip
_RUNS = ("a", "Z", "1", " ", "\n", "!", "é", "中", "\r\n", " \n", "aZ", "a1", "😀", "\u0301", "\t ")
_LONGEST_RUN = 70  # more than any library takes at once
_BATCH = 4096


def first_difference(reference: Encode, other: Encode, pieces: Sequence[str]) -> str | None:
    """The first text, of those that decide about a vocabulary, that has other ids; None: there is none.

    Args:
        reference: texts -> ids of each.
        other: the same, of the library that is compared.
        pieces: the vocabulary as text.
    """
    texts = _deciding(pieces)
    while batch := list(islice(texts, _BATCH)):
        for text, expected, found in zip(batch, reference(batch), other(batch)):
            if expected != found:
                return text
    return None


def differing_characters(reference: Encode, other: Encode, chars: Sequence[str]) -> list[str]:
    """Which of some characters have other ids in some surroundings."""
    differing = []
    for start in range(0, len(chars), _BATCH // 32):
        some = chars[start : start + _BATCH // 32]
        texts = [surrounding.format(char) for char in some for surrounding in _SURROUNDINGS]
        expected, found = reference(texts), other(texts)
        step = len(_SURROUNDINGS)
        for number, char in enumerate(some):
            of_char = slice(number * step, (number + 1) * step)
            if expected[of_char] != found[of_char]:
                differing.append(char)
    return differing


def _deciding(pieces: Sequence[str]) -> Iterator[str]:
    for length in range(4):
        yield from map("".join, product(_CLASSES, repeat=length))
    yield from map("".join, product(_CORE, repeat=4))
    for contraction in _CONTRACTIONS:
        for before, after in product(("", "a", " ", "1", "!", "\n"), ("", "a", "Z", " ", "1", "'s")):
            yield before + contraction + after
    for run in _RUNS:
        for count in range(1, _LONGEST_RUN):
            yield from (run * count, f"a{run * count}b", f"{run * count} b", f"{'x' * count}{run}y")
    yield from pieces
