"""The masked objective on pairs of text parts, with a second label for each pair.

Shape letters: B rows of the micro-batch, S positions in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from pretrain.data.batch import MicroBatch
from pretrain.data.pair_cutting import NO_LABEL
from pretrain.data.samples import Samples
from pretrain.objectives.masked import MaskedObjective
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.pair_config import MaskedPairsConfig
from pretrain.objectives.rows import pair_rows, trimmed_parts

if TYPE_CHECKING:
    from pretrain.models.family import Output

TOKEN_TYPES = "token_types_BS"
PAIR_LABELS = "pair_labels_B"
PAIR_HEAD = "pair"
"""The head of `Output.heads` whose two logits say 0 (next, or in order) and 1 (random, or swapped)."""


class MaskedPairsObjective(MaskedObjective):
    """Micro-batches of [CLS] first [SEP] second [SEP] rows; see `MaskedObjective` and `Objective`.

    `extras` have `token_types_BS`, int64, 1 for the second part and its separator, else 0, and `pair_labels_B`, int64,
    as transformers' `BertForPreTraining` labels them: 0 where the second part follows (is in order), 1 where it is
    random (swapped); -1 asks nothing (padding, and text without a second part).
    """

    evaluation_names = (*MaskedObjective.evaluation_names, "pair_nats", "pairs", "pair_correct", "pairs_of_1")

    def __init__(self, config: MaskedPairsConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self._is_blank = context.tokens.blanks
        self.coefficients = {**self.coefficients, "pair": config.pair_coefficient}

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        parts = trimmed_parts(samples, self._is_blank)
        rows, types = pair_rows(samples, parts, self._model.seq_length, self._special)
        labels = np.where(samples.num_tokens > 0, samples.extras["pair_label"], NO_LABEL)
        tensors = {TOKEN_TYPES: torch.from_numpy(types), PAIR_LABELS: torch.from_numpy(labels)}
        return self._masked(rows, samples.numbers, number, tensors)

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How many positions are to be predicted, and how many pairs have a label."""
        return super().weights(batch) | {"pair": (batch.extras[PAIR_LABELS] != NO_LABEL).sum().float()}

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all of them."""
        return super().losses(output, batch) | {"pair": _pair_nats(output, batch)}

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of `MaskedObjective`; nats of the pairs, how many have a label, how many are told right."""
        labels_B = batch.extras[PAIR_LABELS]
        return super().evaluation_sums(output, batch) | {
            "pair_nats": _pair_nats(output, batch),
            "pairs": (labels_B != NO_LABEL).sum(),
            "pair_correct": (output.heads[PAIR_HEAD].argmax(-1) == labels_B).sum(),
            "pairs_of_1": (labels_B == 1).sum(),
        }

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of `MaskedObjective` (`loss` is that of the masked tokens), loss and accuracy of the pairs.

        `pair_majority` is what the more frequent label alone would reach.
        """
        pairs = sums["pairs"]
        return super().figures(sums) | {
            "pair_loss": sums["pair_nats"] / pairs if pairs else None,
            "pair_accuracy": sums["pair_correct"] / pairs if pairs else None,
            "pair_majority": max(sums["pairs_of_1"], pairs - sums["pairs_of_1"]) / pairs if pairs else None,
        }


def _pair_nats(output: Output, batch: MicroBatch) -> torch.Tensor:
    logits_B2, labels_B = output.heads[PAIR_HEAD].float(), batch.extras[PAIR_LABELS]
    return functional.cross_entropy(logits_B2, labels_B, ignore_index=NO_LABEL, reduction="sum")
