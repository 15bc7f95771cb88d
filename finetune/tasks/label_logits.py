"""What a task predicts where its loss is a cross-entropy over labels.

Shape letters: C labels, N predictions (a text's label, the labels of its tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LabelLogits:
    """What a task predicts for a few examples, where its loss is a cross-entropy.

    Attributes:
        logits_NC: fp32, of each prediction that counts.
        gold_N: number of the right label of each.
        weights_N: what each counts in the loss of its example.
        owner_N: the place of its example among those that were asked for; ascending.
    """

    logits_NC: torch.Tensor
    gold_N: torch.Tensor
    weights_N: torch.Tensor
    owner_N: torch.Tensor
