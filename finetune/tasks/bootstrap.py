"""Intervals of figures by resampling examples. Every figure here is a function of sums over examples.

Shape letters: N examples, K counts of each, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
_AT_ONCE = 2**22
"""Cells of a block of weights [R, N] in memory."""
Array = npt.NDArray[np.float64]


def interval(counts_NK: npt.ArrayLike, statistic: Callable[[Array], Array], seed: int = 0) -> list[float]:
    """The middle 95 % of a figure over resamples of the examples, with replacement (percentile bootstrap).

    Args:
        counts_NK: what the figure is made of, for each example.
        statistic: the figure of sums over examples, [R, K] -> [R].
        seed: of the resamples.

    Returns:
        low, high; the same number twice where there is one example.
    """
    counts_NK = np.asarray(counts_NK, dtype=np.float64)
    generator, number = np.random.default_rng(seed), len(counts_NK)
    block = max(1, _AT_ONCE // number)
    found = []
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        weights_RN = generator.multinomial(number, np.full(number, 1 / number), size=rows)
        found.append(statistic(weights_RN @ counts_NK))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return [float(low), float(high)]


def mean(sums_RK: Array) -> Array:
    """Of counts that are a value and a 1: the mean value."""
    return sums_RK[:, 0] / np.maximum(sums_RK[:, 1], 1)


def micro_f1(sums_RK: Array) -> Array:
    """Of counts that are hits, predicted and right ones: F1."""
    return 2 * sums_RK[:, 0] / np.maximum(sums_RK[:, 1] + sums_RK[:, 2], 1)


def macro_f1(sums_RK: Array) -> Array:
    """Of counts that are hits, then predicted, then right ones, of each label: mean F1 of the labels that occur."""
    hits_RC, predicted_RC, right_RC = np.split(sums_RK, 3, axis=1)
    f1_RC = 2 * hits_RC / np.maximum(predicted_RC + right_RC, 1)
    return f1_RC.sum(axis=1) / np.maximum(((predicted_RC + right_RC) > 0).sum(axis=1), 1)
