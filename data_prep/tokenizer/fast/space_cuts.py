"""Cutting a text before spaces, so that what one library may treat differently goes to the other without its text.

For patterns that begin a new pre-token where a space follows a printable character of ASCII. Two things have to hold,
and are looked at for each vocabulary: no piece joins the two, so that no merge crosses the cut; and the reference gives
both sides the ids that they have together, for each class of characters that patterns tell apart on either side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from data_prep.tokenizer.fast.equality import CLASSES, CORE_CLASSES, Encode

_CUT = re.compile(r"(?<=[!-~]) ")
_JOINED = re.compile(rb"[!-~] ")


def joins_spaces(pieces: Iterable[bytes]) -> bool:
    """Whether a piece, in UTF-8, holds a printable character of ASCII with a space behind it."""
    return any(_JOINED.search(piece) for piece in pieces)


def is_cut_before_spaces(reference: Encode) -> bool:
    """Whether the parts of short strings, cut before such spaces, have the ids that they have in the whole."""
    left = [before + char for before in ("", "a", "'", " ", "\n", "1") for char in CLASSES if "!" <= char <= "~"]
    right = [" ", *(" " + char for char in CLASSES), *map("".join, product(" ", CORE_CLASSES, CORE_CLASSES))]
    of_left, of_right = reference(left), reference(right)
    apart = [one + other for one, other in product(of_left, of_right)]
    return apart == reference([one + other for one, other in product(left, right)])


def parts_around(text: str, places: Sequence[int] | np.ndarray) -> list[tuple[str, bool]]:
    """A text in parts, each cut before a space, and whether a part holds one of the places.

    Args:
        text: what is cut.
        places: numbers of characters, in order.

    Returns:
        parts in order, neighbours of one kind as one.
    """
    cuts = np.array([0, *(found.start() for found in _CUT.finditer(text)), len(text)])
    holds = np.zeros(len(cuts) - 1, bool)
    holds[np.searchsorted(cuts, places, "right") - 1] = True
    starts = np.flatnonzero(np.diff(holds, prepend=~holds[:1]))
    ends = [*cuts[starts[1:]].tolist(), len(text)]
    return [(text[cuts[at] : end], bool(holds[at])) for at, end in zip(starts.tolist(), ends)]
