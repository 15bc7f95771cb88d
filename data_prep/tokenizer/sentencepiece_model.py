"""What a SentencePiece model file says of how text may be taken apart before the library gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.tokenizer.word_cuts import joined_pairs

SPACE = "\u2581"  # how SentencePiece writes a space inside a piece
NORMAL, USER_DEFINED, UNUSED = 1, 4, 5  # types of pieces that text can become, bytes apart
CONTROL = 3  # one that it cannot
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


def parse(model: bytes) -> Any:
    """The model file's message."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model)
    return proto


def takes_text_as_it_is(proto: Any) -> bool:
    """Whether nothing is normalised, added or removed, and what is not in the vocabulary is written in bytes."""
    spec = proto.normalizer_spec
    changes = spec.precompiled_charsmap or spec.add_dummy_prefix or spec.remove_extra_whitespaces
    return bool(proto.trainer_spec.byte_fallback and spec.escape_whitespaces and not changes)


def is_plain_bpe(proto: Any) -> bool:
    """Whether text is only ever joined, neighbour by neighbour, into pieces that were learned."""
    if not takes_text_as_it_is(proto) or ALGORITHMS.get(proto.trainer_spec.model_type) != "bpe":
        return False
    return all(piece.type != USER_DEFINED for piece in proto.pieces)


@dataclass(frozen=True)
class Joints:
    """Where text must stay in one.

    Attributes:
        joined: for `cut`: the bytes that stand side by side in some piece.
        parts_words: whether what lies between two cuts has the same ids on its own, and line breaks part it.
    """

    joined: np.ndarray
    parts_words: bool


def read_joints(model: bytes) -> Joints | None:
    """Where text may be cut before a model gets it; None: nowhere, since it changes text first.

    A cut between two pieces changes no id: of BPE exactly, of unigram up to the rounding of its sums of scores.
    """
    proto = parse(model)
    if not takes_text_as_it_is(proto):
        return None
    texts = (p.piece.replace(SPACE, " ") for p in proto.pieces if p.type in (NORMAL, USER_DEFINED, UNUSED))
    joined = joined_pairs(texts)
    line_break = ord("\n")
    is_apart = not (joined[line_break].any() or joined[:, line_break].any())
    return Joints(joined, is_apart and is_plain_bpe(proto))
