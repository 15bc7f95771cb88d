"""Which documents of a corpus train, validate and test: one fixed rule for everything that holds documents out."""

from __future__ import annotations

from typing import Literal

import numpy as np

PartName = Literal["train", "validation", "test", "all"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
DEFAULT_SPLIT = (0.98, 0.01, 0.01)
"""Shares of the parts unless a run says otherwise."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def hash_numbers(numbers: np.ndarray) -> np.ndarray:
    """A fixed 64-bit hash of each number (the finalizer of SplitMix64), uint64 [n] -> uint64 [n]."""
    x = numbers.astype(np.uint64) + _MULTIPLIER
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(numbers: np.ndarray) -> np.ndarray:
    """A fixed number in [0, 1) for each number, float64 [n]."""
    return (hash_numbers(numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def part_of_documents(numbers: np.ndarray, split: tuple[float, float, float]) -> np.ndarray:
    """Which of `PARTS` each document belongs to, by a fixed hash of its number in the corpus.

    Neither the seed nor the cut into shards matters, and documents appended to a corpus change nothing for those
    before them. Unlike contiguous ranges, the parts are alike even where a corpus drifts from beginning to end.

    Args:
        numbers: document numbers within the whole corpus, int64 [n].
        split: shares of the parts.

    Returns:
        Positions in `PARTS`, int64 [n].
    """
    bounds = np.array([split[0], split[0] + split[1]])
    bounds[bounds > 1 - 1e-9] = 1.0
    return np.searchsorted(bounds, uniform(numbers), side="right")
