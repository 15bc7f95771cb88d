"""Figures of numbers that are predicted for texts. scipy computes the correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.tasks import bootstrap


def regression_figures(gold: Sequence[float], predicted: Sequence[float], seed: int | None = None) -> dict[str, Any]:
    """Correlations and errors.

    Args:
        gold: right numbers.
        predicted: told ones.
        seed: of the interval's resamples of texts; None: no interval.

    Returns:
        `pearson` (0 where one side is constant) and its 95 % interval, `spearman` (likewise), `mse`, `mae`, `samples`.
    """
    from scipy.stats import spearmanr

    right, told = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    # Sums of numbers near zero lose no digits.
    x, y = right - right.mean(), told - told.mean()
    sums = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    constant = bool(np.ptp(right) == 0 or np.ptp(told) == 0)
    rank = 0.0 if constant else float(spearmanr(right, told).statistic)
    figures = {
        "pearson": 0.0 if constant else float(pearson(sums.sum(0, keepdims=True))[0]),
        "spearman": 0.0 if math.isnan(rank) else rank,
        "mse": float(((right - told) ** 2).mean()),
        "mae": float(np.abs(right - told).mean()),
        "samples": len(right),
    }
    interval = {} if seed is None else {"pearson_interval": bootstrap.interval(sums, pearson, seed)}
    return figures | interval


def pearson(sums_RK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of sums of 1, x, y, x², y², xy: the correlation; 0 where x or y is constant."""
    n, x, y, xx, yy, xy = sums_RK.T
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    return np.where(spread > 1e-24, (n * xy - x * y) / np.sqrt(np.maximum(spread, 1e-24)), 0.0)
