"""Figures of texts with any number of labels. scikit-learn computes them.

Shape letters: N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.tasks import bootstrap
from finetune.tasks.classification_metrics import mean_auroc


def multi_label_figures(
    gold_NC: npt.NDArray[Any],
    chosen_NC: npt.NDArray[Any],
    labels: Sequence[str],
    scores_NC: npt.NDArray[np.float32] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Micro, macro and per-label precision, recall and F1, and how many texts have exactly their labels.

    Args:
        gold_NC: 1 or true for each label that a text has.
        chosen_NC: likewise, of those that were chosen.
        labels: all labels. The macro means are over those that a text has or got.
        scores_NC: by which they were chosen; gives `auroc`.
        seed: of the intervals' resamples of texts; None: no intervals.

    Returns:
        `micro_...` and `macro_...` `precision`, `recall`, `f1`; the intervals (95 %) of both F1; `accuracy` (texts with
        exactly their labels); `auroc` (mean over the labels that some texts have and some have not; None where there
        are none); `samples`; `labels` as `classification_figures` has them.
    """
    from sklearn.metrics import precision_recall_fscore_support

    gold_NC, chosen_NC = np.asarray(gold_NC).astype(int), np.asarray(chosen_NC).astype(int)
    micro = precision_recall_fscore_support(gold_NC, chosen_NC, average="micro", zero_division=0)[:3]
    columns = precision_recall_fscore_support(gold_NC, chosen_NC, average=None, zero_division=0)
    occurring = np.flatnonzero((gold_NC.sum(0) + chosen_NC.sum(0)) > 0)
    names = ("precision", "recall", "f1")
    figures: dict[str, Any] = {f"micro_{name}": float(value) for name, value in zip(names, micro)}
    for name, column in zip(names, columns):
        figures[f"macro_{name}"] = float(np.mean(column[occurring])) if len(occurring) else 0.0
    if seed is not None:
        by_label = np.concatenate([gold_NC * chosen_NC, chosen_NC, gold_NC], axis=1)
        triples = by_label.reshape(len(gold_NC), 3, -1).sum(2)
        figures["micro_f1_interval"] = bootstrap.interval(triples, bootstrap.micro_f1, seed)
        figures["macro_f1_interval"] = bootstrap.interval(by_label, bootstrap.macro_f1, seed)
    figures["accuracy"] = float((gold_NC == chosen_NC).all(1).mean())
    if scores_NC is not None:
        figures["auroc"] = mean_auroc(gold_NC, scores_NC)
    rows: dict[str, dict[str, Any]] = {}
    for number, label in enumerate(labels):
        found = [float(column[number]) if number in occurring else None for column in columns[:3]]
        rows[label] = dict(zip(names, found)) | {"support": int(gold_NC[:, number].sum())}
    return figures | {"samples": len(gold_NC), "labels": rows}
