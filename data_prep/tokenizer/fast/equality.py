"""Whether two libraries give equal ids: all pieces, all short strings of character classes, characters in surroundings.

The patterns that cut text for byte-level BPE see a character only through its class (letter, digit, mark, white space,
line break, apostrophe, ...) and through a few spelled contractions, and look one character ahead. Short strings are
joined into long texts, for a text of its own costs more than what is in it: where a long text has the same ids, so has
each string in it, in more surroundings than its own. What a pattern may see differently at the end of a text (white
space, what is not printable) has texts of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

Encode = Callable[[Sequence[str]], list[list[int]]]

CLASSES = (
    "a", "Z", "s", "é", "中", "ǅ", "ʰ", "1", "²", "'", " ", "\n", "\r", "\t", "\u00a0", "!", "/", "_", "\u0301", "😀",
    "\u200d", "\x00", "\x85",
)  # fmt: skip
CORE_CLASSES = ("a", "Z", "中", "1", "'", " ", "\n", "\r", "\t", "!", "/", "\u0301")
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'VE", "'M", "'LL", "'D", "'lL", "'x")
_SURROUNDINGS = (
    "{}", "a{}", "Z{}", "{}a", "{}Z", "1{}", "{}1", " {}", "{} ", "  {}", "{}  a", "\n{}", "{}\n", "{}\r\n\n", "\t{}",
    "!{}", "{}!", "/{}", "{}/", "'{}", "{}'s", "'l{}", "'{}e", "'{}l", "'r{}", "'v{}", "\u0301{}", "{}\u0301", "中{}",
    "{0}{0}{0}{0}{0}{0}{0}", "a{}b", " a{}Z", "Z{}a", "\n {}", " {}\n a", "1{}1", "!{}\n/", "Aa{}Aa",
)  # fmt: skip
# All that a printable character can be told apart by, unless one of the contractions is spelled with it.
_SHORT_SURROUNDINGS = "a{0}Z{0}a1{0}1!{0}! {0}{0} '{0}e\n{0}\n/{0}{0}{0}{0}{0}{0}/\u0301{0}\u0301中{0}'s "
_RUNS = ("a", "Z", "1", " ", "\n", "!", "é", "中", "\r\n", " \n", "aZ", "a1", "😀", "\u0301", "\t ")
_LONGEST_RUN = 70  # more than any library takes at once
_BATCH = 4096
_JOINED = 256  # strings in a long text
_APART = " x\n"  # joins with nothing on either side: a word of its own, and the end of its line
_SEED = 12


def first_difference(reference: Encode, other: Encode, pieces: Sequence[str]) -> str | None:
    """The first text, of those that decide about a vocabulary, that has other ids; None: there is none.

    Args:
        reference: texts -> ids of each.
        other: the same, of the library that is compared.
        pieces: the vocabulary as text.
    """
    alone = _texts_of_their_own()
    plain = []
    for piece in pieces:
        if _is_plain(piece):
            plain.append(piece)
        else:
            alone.append(piece)
    for start in range(0, len(alone), _BATCH):
        batch = alone[start : start + _BATCH]
        for text, expected, found in zip(batch, reference(batch), other(batch)):
            if expected != found:
                return text
    for strings, apart in [*_joined_strings(), *_joined_pieces(plain)]:
        text = apart.join(strings)
        if reference([text]) != other([text]):
            parts = zip(strings, reference(strings), other(strings))
            return next((string for string, expected, found in parts if expected != found), text)
    return None


def differing_characters(reference: Encode, other: Encode, chars: Sequence[str]) -> list[str]:
    """Which of some characters have other ids in some surroundings."""
    differing = []
    for part in _parts([char for char in chars if _is_common(char)]):
        if _differ(reference, other, ["".join(map(_surrounded, part))]):
            differing += [char for char in part if _differ(reference, other, [_surrounded(char)])]
    for char in chars:
        if not _is_common(char):
            texts = [surrounding.format(char) for surrounding in _SURROUNDINGS]
            if _differ(reference, other, texts):
                differing.append(char)
    return differing


def _differ(reference: Encode, other: Encode, texts: Sequence[str]) -> bool:
    return reference(texts) != other(texts)


def _is_common(char: str) -> bool:
    """Whether a pattern sees the same of a character wherever it is, and not a letter of a contraction."""
    return char.isprintable() and not char.casefold().isascii()


def _surrounded(char: str) -> str:
    return _SHORT_SURROUNDINGS.format(char)


def _is_plain(piece: str) -> bool:
    """Whether a piece is cut the same way between others as alone: no white space but a space in front."""
    return piece.isprintable() and " " not in piece[1:]


def _joined_pieces(pieces: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Plain pieces, and what is put between them: a letter ends where a space or a line break begins."""
    kinds: dict[str, list[str]] = {"": [], "\n": [], _APART: []}
    for piece in pieces:
        letters = piece.removeprefix(" ").isalpha()
        kinds[_APART if not letters else "" if piece.startswith(" ") else "\n"].append(piece)
    for apart, of_kind in kinds.items():
        for part in _parts(of_kind):
            yield part, apart


def _parts(strings: Sequence[str]) -> Iterator[Sequence[str]]:
    strings_left = iter(strings)
    while part := list(islice(strings_left, _JOINED)):
        yield part


def _texts_of_their_own() -> list[str]:
    texts = ["".join(chars) for length in range(3) for chars in product(CLASSES, repeat=length)]
    texts += map("".join, product(CORE_CLASSES, repeat=3))
    for contraction in _CONTRACTIONS:
        for before, after in product(("", "a", " ", "1", "!", "\n"), ("", "a", "Z", " ", "1", "'s")):
            texts.append(before + contraction + after)
    return texts + [run * count for run in _RUNS for count in range(1, _LONGEST_RUN)]


def _joined_strings() -> Iterator[tuple[Sequence[str], str]]:
    """Strings, and what is put between them."""
    for chars, length in ((CLASSES, 3), (CORE_CLASSES, 4)):
        # In an order of no meaning, so that each begins at another place of a word.
        strings = ["".join(some) for some in product(chars, repeat=length)]
        random.Random(_SEED).shuffle(strings)
        yield strings, ""
    for run in _RUNS:
        counts = range(1, _LONGEST_RUN)
        yield [f"a{run * count}b" for count in counts], ""
        yield [f"{run * count} b" for count in counts], "\na"
        yield [f"{'x' * count}{run}y" for count in counts], "!"
