"""What makes a SentencePiece BPE fast where it provably changes no id: cuts between words, and kitoken's best form.

BPE joins neighbours into pieces of the vocabulary and into nothing else. Text may therefore be cut between any two
characters that no piece holds side by side, and what is cut out, if it is itself a piece, need not be joined step by
step, provided that the model joins that piece on its own as well. Both are looked up in the vocabulary; where they do
not hold, the model is used as it is. Spaces are written as such, so that no text has to be rewritten first.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np

from data_prep.tokenizer.word_cuts import joined_pairs

_SPACE = "\u2581"
_NORMAL, _USER_DEFINED, _UNUSED = 1, 4, 5  # piece types of a SentencePiece model
_BPE = 2  # its model type
_PATTERN = r" *[\p{L}\p{M}]+| *\p{N}+| *[^ \n\p{L}\p{M}\p{N}]+|\n+| +"


def word_joints(model: bytes) -> np.ndarray | None:
    """Between which bytes text must not be cut, for all parts to have the ids of the whole: see `joined_pairs`.

    Args:
        model: a SentencePiece model.

    Returns:
        None where this is not known, or everywhere.
    """
    proto = _plain_bpe(model)
    if proto is None:
        return None
    return joined_pairs(p.piece.replace(_SPACE, " ") for p in proto.pieces if p.type in (_NORMAL, _UNUSED))


def fast_form(model: bytes, processor: Any) -> tuple[bytes, dict[str, Any]] | None:
    """The model with plain spaces, and the config with which kitoken cuts text; None if some id might change.

    Args:
        model: a SentencePiece model.
        processor: the same, loaded.
    """
    proto = _plain_bpe(model)
    if proto is None:
        return None
    numbers = [number for number, piece in enumerate(proto.pieces) if piece.type == _NORMAL]
    texts = [proto.pieces[number].piece.replace(_SPACE, " ") for number in numbers]
    if not all(map(_is_never_cut, texts)):
        return None
    if processor.encode(texts, num_threads=1) != [[number] for number in numbers]:
        return None
    for number, text in zip(numbers, texts):
        proto.pieces[number].piece = text
    split = [{"Pattern": {"pattern": {"Regex": _PATTERN}, "behavior": "Isolate"}}]
    return proto.SerializeToString(), {"normalization": [], "split": split}


def _plain_bpe(model: bytes) -> Any | None:
    """The model, parsed, if it is a BPE that takes text as it is and spells what it does not know in bytes."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model)
    spec = proto.normalizer_spec
    if proto.trainer_spec.model_type != _BPE or not proto.trainer_spec.byte_fallback:
        return None
    if spec.name != "identity" or spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        return None
    if any(piece.type == _USER_DEFINED for piece in proto.pieces):
        return None
    return proto


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
