"""Figures of a classifier, and how they are shown. scikit-learn computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.columns import shorten
from finetune.tasks import bootstrap

MOST_COUNTED = 30
"""Labels up to which every cell of a confusion matrix is shown with its number."""
MOST_NAMED = 100
"""Labels up to which the picture names them."""


def classification_figures(
    gold: Sequence[int], predicted: Sequence[int], labels: Sequence[str], seed: int | None = None
) -> dict[str, Any]:
    """Accuracy, macro and per-label precision, recall and F1, and the confusion matrix.

    Args:
        gold: number of the right label of each text.
        predicted: number of the label that was chosen.
        labels: all labels. The macro means are over those that are right or chosen anywhere, as scikit-learn's are.
        seed: of the intervals' resamples of texts; None: no intervals.

    Returns:
        `accuracy`, `matthews` (correlation), `macro_precision`, `macro_recall`, `macro_f1`, the 95 % intervals of
        accuracy and macro F1, `samples`, `labels` (by label: precision, recall, f1, support; None where a label is
        neither right nor chosen) and `confusion` (rows: right label, columns: chosen label).
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

    numbers = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, labels=numbers, average=None, zero_division=0
    )
    occurring = sorted({*gold, *predicted})
    per_label: dict[str, dict[str, Any]] = {
        label: {"precision": None, "recall": None, "f1": None, "support": 0} for label in labels
    }
    for n in occurring:
        row = {"precision": float(precision[n]), "recall": float(recall[n]), "f1": float(f1[n])}
        per_label[labels[n]] = row | {"support": int(support[n])}
    figures: dict[str, Any] = {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_precision": float(np.mean(precision[occurring])),
        "macro_recall": float(np.mean(recall[occurring])),
        "macro_f1": float(np.mean(f1[occurring])),
        "matthews": float(matthews_corrcoef(gold, predicted)),
        "samples": len(gold),
    }
    if seed is not None:
        one_hot, hits = np.eye(len(labels), dtype=int), [(a == b, 1) for a, b in zip(gold, predicted)]
        right, chosen = one_hot[list(gold)], one_hot[list(predicted)]
        by_label = np.concatenate([right * chosen, chosen, right], axis=1)
        figures["accuracy_interval"] = bootstrap.interval(hits, bootstrap.mean, seed)
        figures["macro_f1_interval"] = bootstrap.interval(by_label, bootstrap.macro_f1, seed)
    matrix: npt.NDArray[np.int64] = confusion_matrix(gold, predicted, labels=numbers)
    return figures | {"labels": per_label, "confusion": matrix.tolist()}


def mean_auroc(gold_NC: npt.NDArray[Any], scores_NC: npt.NDArray[np.float32]) -> float | None:
    """The area under the curve of each label against the others, mean over the labels; None where there are none.

    Args:
        gold_NC: true for each label that a text has; labels that all texts have, or none has, do not count.
        scores_NC: the probability of each label.
    """
    from sklearn.metrics import roc_auc_score

    told = [n for n in range(scores_NC.shape[1]) if 0 < gold_NC[:, n].sum() < len(gold_NC)]
    areas = [float(roc_auc_score(gold_NC[:, n], scores_NC[:, n])) for n in told]
    return float(np.mean(areas)) if areas else None


def label_table(figures: Mapping[str, Any], counted: str = "texts") -> Any:
    """A `rich` table of the figures by label, whose support counts `counted`; with micro means where there are some."""
    from rich.table import Table

    table = Table("label", title="by label", title_justify="left")
    for column in ("precision", "recall", "F1", counted):
        table.add_column(column, justify="right")
    for label, row in figures["labels"].items():
        numbers = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        table.add_row(_plain(label), *numbers, f"{row['support']:,}")
    table.add_section()
    total = f"{sum(row['support'] for row in figures['labels'].values()):,}"
    if "micro_precision" in figures:
        table.add_row("all together (micro)", *_means(figures, "micro"), total)
    occurring = sum(row["f1"] is not None for row in figures["labels"].values())
    whole = "macro mean" if occurring == len(figures["labels"]) else f"macro mean of {occurring:,} labels that occur"
    table.add_row(whole, *_means(figures, "macro"), total)
    return table


def _means(figures: Mapping[str, Any], kind: str) -> list[str]:
    return [f"{figures[f'{kind}_{key}']:.3f}" for key in ("precision", "recall", "f1")]


def confusion_table(figures: Mapping[str, Any]) -> Any:
    """A `rich` table of the confusion matrix; of many labels, which no line has room for, its largest errors."""
    from rich.table import Table

    labels = list(figures["labels"])
    if len(labels) > MOST_COUNTED:
        return _errors_table(labels, np.asarray(figures["confusion"]))
    table = Table("right label", title="confusion: rows are right, columns are chosen", title_justify="left")
    for label in labels:
        table.add_column(_plain(label), justify="right")
    for number, (label, row) in enumerate(zip(labels, figures["confusion"])):
        table.add_row(_plain(label), *(_plain(str(n), "bold" if at == number else "") for at, n in enumerate(row)))
    return table


def _errors_table(labels: Sequence[str], counts: npt.NDArray[np.int64]) -> Any:
    from rich.table import Table

    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_COUNTED]
    table = Table("right label", "chosen label", title="most frequent confusions", title_justify="left")
    table.add_column("texts", justify="right")
    for row, column in zip(*np.unravel_index(order, wrong.shape)):
        if wrong[row, column]:
            table.add_row(_plain(labels[row]), _plain(labels[column]), f"{wrong[row, column]:,}")
    return table


def _plain(text: str, style: str = "") -> Any:
    """A cell with this text as it is: `[b]` is no markup."""
    from rich.text import Text

    return Text(text, style)


def comparison_table(
    systems: Mapping[str, Mapping[str, Any]],
    part: str,
    columns: Sequence[str] = ("accuracy", "macro_precision", "macro_recall", "macro_f1"),
) -> Any:
    """A `rich` table of some figures of several systems on the same texts, with intervals where they are known."""
    from rich.table import Table

    table = Table("system", title=f"on the {part} part", title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " ").replace("f1", "F1"), justify="right")
    for name, figures in systems.items():
        told = f"{name} ({figures['features']})" if "features" in figures else name
        table.add_row(told, *(_with_interval(figures, column) for column in columns))
    return table


def _with_interval(figures: Mapping[str, Any], key: str) -> str:
    interval = figures.get(f"{key}_interval")
    value = "-" if figures.get(key) is None else f"{figures[key]:.3f}"
    return value if interval is None else f"{value} ({interval[0]:.3f} to {interval[1]:.3f})"


def plot_confusion(figures: Mapping[str, Any], path: Path) -> None:
    """The confusion matrix as a PNG: shares of each right label, with the counts.

    Counts are left out where there are more than `MOST_COUNTED` labels, the labels where more than `MOST_NAMED`; the
    picture grows no further. A label that no installed font can write is its number, from 0.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from data_prep.plot_names import drawable

    labels = [shorten(" ".join(label.split()), 40) for label in figures["labels"]]
    is_named = len(labels) <= MOST_NAMED
    counts = np.asarray(figures["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.0, 1.2 + 0.7 * len(labels)), 24.0)
    with drawable(labels if is_named else []) as names:
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if is_named:
            # Without parse_math, two dollar signs would make a formula.
            axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", parse_math=False)
            axes.set_yticks(range(len(labels)), names, parse_math=False)
        kind = "label" if is_named else "label's number, from 0"
        axes.set_xlabel(f"chosen {kind}")
        axes.set_ylabel(f"right {kind}")
        axes.set_title(f"accuracy {figures['accuracy']:.3f}, macro F1 {figures['macro_f1']:.3f}")
        if len(labels) <= MOST_COUNTED:
            for row, column in np.ndindex(counts.shape):
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
        figure.colorbar(image, label="share of the right label")
        figure.savefig(path, dpi=120)
