"""How tags write entities: IOB1, IOB2, IOBES (BILOU, BMES) are recognised and converted to strict IOB2.

In all of them `O` is a word outside of entities, and other tags are a letter, a hyphen and the type of the entity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from configs.errors import DataError

Scheme = Literal["none", "iob1", "iob2", "iobes"]
OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
# The letters of other schemes by those of IOBES.
_AS_IOBES = {"L": "E", "U": "S", "M": "I"}


def recognize(texts: Iterable[Sequence[str]], where: str) -> Scheme:
    """The scheme of all texts together; `none` where the tags are plain, such as parts of speech.

    Where most entities begin with `B-`, it is IOB2, and what begins otherwise breaks it.

    Args:
        texts: the tags of each.
        where: they come from, for messages.

    Raises:
        DataError: tags of entities and others are mixed, or the beginnings of entities follow two schemes.
    """
    tags: dict[str, None] = {}
    by_inside: list[str] = []  # tags that begin an entity as in IOB1
    by_begin: list[str] = []  # and as in IOB2
    for text in texts:
        open_type = None
        for tag in text:
            tags[tag] = None
            found = _PREFIXED.fullmatch(tag)
            letter, kind = found.groups() if found else ("", None)
            if letter == "I" and kind != open_type:
                by_inside.append(tag)
            if letter == "B" and kind != open_type:
                by_begin.append(tag)
            open_type = kind
    prefixed = [tag for tag in tags if _PREFIXED.fullmatch(tag)]
    other = [tag for tag in tags if tag != OUTSIDE and tag not in prefixed]
    if not prefixed:
        return "none"
    if other:
        raise DataError(
            f"has tags of entities, such as {prefixed[0]!r}, beside {other[0]!r}",
            where=where,
            expected="tags of one sort; data.scheme=none takes all of them for plain tags",
        )
    if any(tag[0] in "ESLUM" for tag in prefixed):
        return "iobes"
    if by_begin and len(by_inside) >= len(by_begin):
        raise DataError(
            f"begins {len(by_inside):,} entities as {by_inside[0]!r} after another tag does, as IOB1 has them, and"
            f" {len(by_begin):,} as {by_begin[0]!r} does, as IOB2 has them",
            where=where,
            expected="tags of one scheme; data.scheme=iob1 takes an I- that follows another tag for a beginning",
        )
    return "iob1" if by_inside and not by_begin else "iob2"


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The tags of a text in strict IOB2: each entity begins with `B-`, and `I-` continues one of its type.

    Args:
        tags: of one text.
        scheme: that they follow; with `none` they stay what they are.

    Raises:
        ValueError: they do not follow it; says where.
    """
    if scheme == "none":
        return list(tags)
    converted: list[str] = []
    open_type: str | None = None
    for number, tag in enumerate([*tags, OUTSIDE]):
        found = _PREFIXED.fullmatch(tag)
        if found is None and tag != OUTSIDE:
            raise ValueError(f"word {number + 1} has the tag {tag!r}, which is none of {scheme.upper()}")
        letter, kind = found.groups() if found else ("O", None)
        letter = _AS_IOBES.get(letter, letter) if scheme == "iobes" else letter
        if letter not in {"iob1": "BIO", "iob2": "BIO", "iobes": "BIESO"}[scheme]:
            raise ValueError(f"word {number + 1} has the tag {tag!r}, which is none of {scheme.upper()}")
        continues = letter in "IE" and kind == open_type
        if letter in "IE" and not continues and scheme != "iob1":
            raise ValueError(f"word {number + 1} has the tag {tag!r}, and no {kind} is before it")
        if scheme == "iobes" and open_type is not None and not continues:
            raise ValueError(f"the {open_type} before word {number + 1} has no end")
        converted.append(OUTSIDE if kind is None else f"{'I' if continues else 'B'}-{kind}")
        open_type = None if scheme == "iobes" and letter in "ESO" else kind
    return converted[:-1]


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The entities of IOB2 tags: first word, the word after the last, type. An `I-` that continues none is none."""
    found: list[tuple[int, int, str]] = []
    open_at: int | None = None
    for number, tag in enumerate([*tags, OUTSIDE]):
        if open_at is not None and tag != f"I-{tags[open_at][2:]}":
            found.append((open_at, number, tags[open_at][2:]))
            open_at = None
        if tag.startswith("B-"):
            open_at = number
    return found
