"""Figures of a classifier, and how they are shown. scikit-learn computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def classification_figures(
    gold: Sequence[int], predicted: Sequence[int], labels: Sequence[str], loss: float | None = None
) -> dict[str, Any]:
    """Accuracy, macro and per-label precision, recall and F1, and the confusion matrix.

    Args:
        gold: number of the right label of each text.
        predicted: number of the label that was chosen.
        labels: all labels; a label that does not occur counts 0 in the macro means.
        loss: mean cross-entropy, if it is known.

    Returns:
        `accuracy`, `macro_precision`, `macro_recall`, `macro_f1`, `samples`, `labels` (by label: precision, recall, f1,
        support) and `confusion` (rows: right label, columns: chosen label).
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, labels=numbers, average=None, zero_division=0
    )
    per_label = {
        label: {
            "precision": float(precision[n]),
            "recall": float(recall[n]),
            "f1": float(f1[n]),
            "support": int(support[n]),
        }
        for n, label in enumerate(labels)
    }
    figures: dict[str, Any] = {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_precision": float(np.mean(precision)),
        "macro_recall": float(np.mean(recall)),
        "macro_f1": float(np.mean(f1)),
        "samples": len(gold),
    }
    if loss is not None:
        figures["loss"] = loss
    matrix: npt.NDArray[np.int64] = confusion_matrix(gold, predicted, labels=numbers)
    return figures | {"labels": per_label, "confusion": matrix.tolist()}


def label_table(figures: Mapping[str, Any]) -> Any:
    """A `rich` table of the figures by label."""
    from rich.table import Table

    table = Table("label", title="by label", title_justify="left")
    for column in ("precision", "recall", "F1", "texts"):
        table.add_column(column, justify="right")
    for label, row in figures["labels"].items():
        table.add_row(label, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), f"{row['support']:,}")
    macro = (figures["macro_precision"], figures["macro_recall"], figures["macro_f1"])
    table.add_section()
    table.add_row("macro mean", *(f"{value:.3f}" for value in macro), f"{figures['samples']:,}")
    return table


def confusion_table(figures: Mapping[str, Any]) -> Any:
    """A `rich` table of the confusion matrix."""
    from rich.table import Table

    labels = list(figures["labels"])
    table = Table("right label", title="confusion: rows are right, columns are chosen", title_justify="left")
    for label in labels:
        table.add_column(label, justify="right")
    for number, (label, row) in enumerate(zip(labels, figures["confusion"])):
        table.add_row(label, *(f"[bold]{n}[/bold]" if at == number else str(n) for at, n in enumerate(row)))
    return table


def comparison_table(systems: Mapping[str, Mapping[str, Any]], part: str) -> Any:
    """A `rich` table of accuracy and macro figures of several systems on the same texts."""
    from rich.table import Table

    columns = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
    table = Table("system", title=f"on the {part} part", title_justify="left")
    for column in columns:
        table.add_column(column.replace("macro_", "macro ").replace("f1", "F1"), justify="right")
    for name, figures in systems.items():
        table.add_row(name, *(f"{figures[column]:.3f}" for column in columns))
    return table


def plot_confusion(figures: Mapping[str, Any], path: Path) -> None:
    """The confusion matrix as a PNG: shares of each right label, with the counts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(figures["labels"])
    counts = np.asarray(figures["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 1.2 + 0.7 * len(labels))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("chosen label")
    axes.set_ylabel("right label")
    axes.set_title(f"accuracy {figures['accuracy']:.3f}, macro F1 {figures['macro_f1']:.3f}")
    if len(labels) <= 30:
        for row, column in np.ndindex(counts.shape):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the right label")
    figure.savefig(path, dpi=120)
