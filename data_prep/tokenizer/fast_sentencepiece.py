"""A SentencePiece BPE model in the form in which kitoken is fastest, where that provably changes no id.

BPE joins neighbours into pieces of the vocabulary and into nothing else. Text may therefore be cut between any two
characters that no piece holds side by side, and what is cut out, if it is itself a piece, need not be joined step by
step, provided that the model joins that piece on its own as well. Both are looked up in the vocabulary; where they do
not hold, the model is used as it is. Spaces are written as such, so that no text has to be rewritten first.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

from data_prep.tokenizer.sentencepiece_model import NORMAL, SPACE, UNUSED, is_plain_bpe, parse

_PATTERN = r" *[\p{L}\p{M}]+| *\p{N}+| *[^ \n\p{L}\p{M}\p{N}]+|\n+| +"


def fast_form(model: bytes, processor: Any) -> tuple[bytes, dict[str, Any]] | None:
    """The model with plain spaces, and the config with which kitoken cuts text; None if some id might change.

    Args:
        model: a SentencePiece model.
        processor: the same, loaded.
    """
    proto = parse(model)
    if not is_plain_bpe(proto) or any(piece.type == UNUSED for piece in proto.pieces):
        return None
    numbers = [number for number, piece in enumerate(proto.pieces) if piece.type == NORMAL]
    texts = [proto.pieces[number].piece.replace(SPACE, " ") for number in numbers]
    if not all(map(_is_never_cut, texts)):
        return None
    if processor.encode(texts, num_threads=1) != [[number] for number in numbers]:
        return None
    for number, text in zip(numbers, texts):
        proto.pieces[number].piece = text
    split = [{"Pattern": {"pattern": {"Regex": _PATTERN}, "behavior": "Isolate"}}]
    return proto.SerializeToString(), {"normalization": [], "split": split}


def _is_never_cut(piece: str) -> bool:
    """Whether `_PATTERN` has no border between two characters of `piece`, in whatever text it lies."""
    classes = [_class(char) for char in piece]
    if "unassigned" in classes:
        return False
    return all(one == other or (one == " " and other != "\n") for one, other in pairwise(classes))


def _class(char: str) -> str:
    if char in " \n":
        return char
    category = unicodedata.category(char)
    if category in ("Cn", "Co"):
        return "unassigned"  # another version of Unicode may know it
    return {"L": "letter", "M": "letter", "N": "number"}.get(category[0], "other")
