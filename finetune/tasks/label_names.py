"""What tasks whose new layer has an output per label share: the labels in the config, in a file, and no NaN."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import ExitStatus, UserError

LABELS_FILE = "labels.json"


def label_fields(labels: Sequence[str]) -> dict[str, Any]:
    """The fields of transformers' config that name labels."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def save_labels(folder: Path, labels: Sequence[str]) -> None:
    """Write the labels, in the order of their numbers."""
    (folder / LABELS_FILE).write_text(json.dumps(labels, indent=2, ensure_ascii=False) + "\n", "utf-8")


def refuse_not_numbers(values: npt.NDArray[np.floating[Any]], product: str) -> None:
    """Refuse what a model says if it is not finite.

    Args:
        values: probabilities, or what else it gives.
        product: what the model is called.

    Raises:
        UserError: status DIVERGED.
    """
    if not np.isfinite(values).all():
        raise UserError(
            f"the {product} gives probabilities that are not numbers",
            where="training",
            expected="finite numbers; a smaller optimizer.lr or precision=fp32 may help",
            status=ExitStatus.DIVERGED,
        )
