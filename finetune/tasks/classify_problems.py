"""What a classifier is asked: one label of each text, any number of labels, or a number. transformers' problem types.

Shape letters: B samples of a micro-batch, N of a part, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from finetune.tasks.labelled_texts import LabelledText

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
WORST = 20
"""Examples with the largest losses that the record names."""


class LabelProblem(Protocol):
    """One sort of labels. Made with (the labels in the order of their numbers,)."""

    def gold(self, example: LabelledText) -> Any:
        """The right answer as a number, or as a list of them."""
        ...

    def losses(self, logits_BC: torch.Tensor, gold: Sequence[Any]) -> torch.Tensor:
        """The loss of each example, fp32 [B]."""
        ...

    def outputs(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """What is predicted: probabilities, or the number itself; as transformers' pipeline gives it."""
        ...

    def output_losses(self, outputs_NC: Floats, gold: Sequence[Any]) -> npt.NDArray[np.float64]:
        """The loss of each example by what was predicted, [N]."""
        ...

    def figures(self, outputs_NC: Floats, gold: Sequence[Any], seed: int | None) -> dict[str, Any]:
        """All figures but the loss; without a seed, those that are seen while training."""
        ...

    def line(self, outputs_C: Floats) -> dict[str, Any]:
        """What the predictions of a part say of an example."""
        ...


class SingleLabel:
    """Each text has one of the labels: softmax and cross-entropy.

    Args:
        labels: in the order of their numbers.
        label_weights: of each label in the loss, float64 [C].
    """

    def __init__(self, labels: Sequence[str], label_weights: npt.NDArray[np.float64]) -> None:
        self.labels, self.label_weights = labels, label_weights
        self.numbers = {label: number for number, label in enumerate(labels)}

    def gold(self, example: LabelledText) -> int:
        """See the protocol."""
        return self.numbers[example.label]

    def losses(self, logits_BC: torch.Tensor, gold: Sequence[int]) -> torch.Tensor:
        """See the protocol; times the weight of the label."""
        import torch

        weights_B = torch.tensor(self.label_weights[list(gold)], dtype=torch.float32, device=logits_BC.device)
        gold_B = torch.tensor(gold, device=logits_BC.device)
        return torch.nn.functional.cross_entropy(logits_BC, gold_B, reduction="none") * weights_B

    def outputs(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """See the protocol."""
        return logits_BC.softmax(-1)

    def output_losses(self, outputs_NC: Floats, gold: Sequence[int]) -> npt.NDArray[np.float64]:
        """See the protocol."""
        chosen_N = outputs_NC[np.arange(len(gold)), list(gold)].astype(np.float64)
        return -np.log(np.maximum(chosen_N, 1e-12))

    def figures(self, outputs_NC: Floats, gold: Sequence[int], seed: int | None) -> dict[str, Any]:
        """See `classification_figures`, and `mean_auroc`."""
        from finetune.tasks.classification_metrics import classification_figures, mean_auroc

        figures = classification_figures(gold, outputs_NC.argmax(1).tolist(), self.labels, seed)
        if seed is not None:
            figures["auroc"] = mean_auroc(np.eye(len(self.labels), dtype=int)[list(gold)], outputs_NC)
        return figures

    def line(self, outputs_C: Floats) -> dict[str, Any]:
        """See the protocol."""
        return {"predicted": self.labels[int(outputs_C.argmax())], "probabilities": _named(self.labels, outputs_C)}


class MultiLabel:
    """Each text has any number of the labels: a sigmoid and binary cross-entropy each, chosen from 0.5 on.

    Args:
        labels: in the order of their numbers.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels

    def gold(self, example: LabelledText) -> list[int]:
        """See the protocol; 1 for each label that the text has."""
        return [int(label in example.labels) for label in self.labels]

    def losses(self, logits_BC: torch.Tensor, gold: Sequence[list[int]]) -> torch.Tensor:
        """See the protocol; mean over the labels."""
        import torch

        gold_BC = torch.tensor(gold, dtype=torch.float32, device=logits_BC.device)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits_BC, gold_BC, reduction="none").mean(1)

    def outputs(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """See the protocol."""
        return logits_BC.sigmoid()

    def output_losses(self, outputs_NC: Floats, gold: Sequence[list[int]]) -> npt.NDArray[np.float64]:
        """See the protocol."""
        right_NC = np.where(np.array(gold) == 1, outputs_NC, 1 - outputs_NC).astype(np.float64)
        return np.asarray(-np.log(np.maximum(right_NC, 1e-12)).mean(1))

    def figures(self, outputs_NC: Floats, gold: Sequence[list[int]], seed: int | None) -> dict[str, Any]:
        """See `multi_label_figures`."""
        from finetune.tasks.multi_label_metrics import multi_label_figures

        scores_NC = None if seed is None else outputs_NC
        return multi_label_figures(np.array(gold), outputs_NC >= 0.5, self.labels, scores_NC, seed)

    def line(self, outputs_C: Floats) -> dict[str, Any]:
        """See the protocol."""
        chosen = [label for label, p in zip(self.labels, outputs_C) if p >= 0.5]
        return {"predicted": chosen, "probabilities": _named(self.labels, outputs_C)}


class Regression:
    """Each text has a number: mean squared error."""

    def gold(self, example: LabelledText) -> float:
        """See the protocol."""
        assert example.value is not None
        return example.value

    def losses(self, logits_BC: torch.Tensor, gold: Sequence[float]) -> torch.Tensor:
        """See the protocol."""
        import torch

        gold_B = torch.tensor(gold, dtype=torch.float32, device=logits_BC.device)
        return (logits_BC[:, 0] - gold_B).square()

    def outputs(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """See the protocol."""
        return logits_BC

    def output_losses(self, outputs_NC: Floats, gold: Sequence[float]) -> npt.NDArray[np.float64]:
        """See the protocol."""
        return np.asarray((outputs_NC[:, 0].astype(np.float64) - np.array(gold)) ** 2)

    def figures(self, outputs_NC: Floats, gold: Sequence[float], seed: int | None) -> dict[str, Any]:
        """See `regression_figures`."""
        from finetune.tasks.regression_metrics import regression_figures

        return regression_figures(gold, outputs_NC[:, 0].tolist(), seed)

    def line(self, outputs_C: Floats) -> dict[str, Any]:
        """See the protocol."""
        return {"predicted": round(float(outputs_C[0]), 6)}


def _named(labels: Sequence[str], outputs_C: Floats) -> Mapping[str, float]:
    return {label: round(float(p), 6) for label, p in zip(labels, outputs_C)}


def worst(ids: Sequence[str], losses_N: npt.NDArray[np.float64], lines: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The examples with the largest losses, the largest first, as the predictions have them without probabilities."""
    order = np.argsort(-losses_N, kind="stable")[:WORST]
    return [{"id": ids[n], **lines[n], "loss": round(float(losses_N[n]), 6)} for n in order]
