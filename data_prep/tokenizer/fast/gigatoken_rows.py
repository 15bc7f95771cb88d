"""Ids from gigatoken as plain arrays, without the library that it hands them over in.

Upstream: gigatoken 0.10, `BPETokenizer.encode_batch`, imports awkward in each call, asks whether the texts are an
`awkward.Array`, and gives the result to `awkward.unflatten(ids, lengths)`. Importing awkward takes 50 MB in each
worker, for two arrays that are there already. So it finds a module of these two names in its place during the call.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np

_AWKWARD = "awkward"
_lock = RLock()


class _NoArray:
    """What no text is an instance of."""


def _as_they_are(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ids, lengths


_stand_in: Any = ModuleType(_AWKWARD)
_stand_in.Array, _stand_in.unflatten = _NoArray, _as_they_are


def encoded_rows(encoder: Any, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all texts, one after the other, int32 [tokens], and how many each has, int64 [texts]."""
    with _without_awkward():
        ids, lengths = encoder.encode_batch(list(texts), parallel=False)
    return np.asarray(ids).view(np.int32), np.asarray(lengths, np.int64)


def encoded_lists(encoder: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text."""
    with _without_awkward():
        found: list[list[int]] = encoder.encode_batch_list(list(texts), parallel=False)
    return found


@contextmanager
def _without_awkward() -> Iterator[None]:
    with _lock:
        there = sys.modules.get(_AWKWARD)
        sys.modules[_AWKWARD] = _stand_in
        try:
            yield
        finally:
            if there is None:
                del sys.modules[_AWKWARD]
            else:
                sys.modules[_AWKWARD] = there
