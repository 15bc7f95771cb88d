"""Puts the loss of a unigram model among the figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.mixture import MixtureObjective
from pretrain.objectives.objective import EvaluatedObjective

if TYPE_CHECKING:
    from pretrain.models.family import Output


def with_unigram_loss(objective: EvaluatedObjective, nats: np.ndarray | None) -> EvaluatedObjective:
    """An objective made for evaluations with `unigram_loss` among its figures; of a mixture each part has its own."""
    if isinstance(objective, MixtureObjective):
        objective.measure(lambda part: WithUnigramLoss(part, nats))
        return objective
    return WithUnigramLoss(objective, nats)


class WithUnigramLoss:
    """An objective's evaluation, and what a model that knows only token frequencies loses on the same labels.

    `unigram_loss` is over exactly the labels that count in `loss`: of a masked objective the masked ones, of pairs
    without what is trimmed.

    Args:
        objective: made for evaluations.
        nats: of each id, float64 [vocab_size]; see `unigram_nats`. None: not known, and the figure is left out.
    """

    def __init__(self, objective: EvaluatedObjective, nats: np.ndarray | None) -> None:
        self._objective = objective
        self._nats = None if nats is None else torch.from_numpy(nats)
        own = () if nats is None else ("unigram_nats", "unigram_labels")
        self.evaluation_names: tuple[str, ...] = (*objective.evaluation_names, *own)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        return self._objective.batch(samples, number)

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of the objective; the nats of the unigram model, and how many labels count."""
        sums = self._objective.evaluation_sums(output, batch)
        if self._nats is None:
            return sums
        self._nats = self._nats.to(batch.labels_BS.device)
        counting = batch.loss_mask_BS.double()
        nats = (self._nats[batch.labels_BS] * counting).sum()
        return sums | {"unigram_nats": nats, "unigram_labels": counting.sum()}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of the objective, and `unigram_loss`."""
        figures = self._objective.figures(sums)
        if self._nats is None:
            return figures
        labels = sums["unigram_labels"]
        return figures | {"unigram_loss": sums["unigram_nats"] / labels if labels else None}
