"""The one value that passes from the data to the engine: what a rank sees in one forward pass.

Shape letters: B samples in the micro-batch (micro_batch_size), S tokens in a sample (seq_length).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass on one data rank. Tensors may be shared between batches: leave them as they are.

    Attributes:
        tokens_BS: int64, what the model reads.
        labels_BS: int64, what it should say at each position.
        loss_mask_BS: float32, how much the loss of each position counts; 1 everywhere but in a padded sample.
        position_ids_BS: int64, position of each token within its sample (or its document, see `segment_ids_BS`).
        segment_ids_BS: int64, the number of each token's document within the sample, from 0; None when attention
            is not reset at documents.
        number: which micro-batch of the global batch this is, over all data ranks; the same samples have the same
            number in every layout with this micro_batch_size, so dropout seeds may rest on it.
    """

    tokens_BS: torch.Tensor
    labels_BS: torch.Tensor
    loss_mask_BS: torch.Tensor
    position_ids_BS: torch.Tensor
    segment_ids_BS: torch.Tensor | None = None
    number: int = 0
