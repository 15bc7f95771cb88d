"""The one value that passes from the data to the engine: what a rank sees in one forward pass.

Shape letters: B rows of the micro-batch (micro_batch_size, or a multiple of it), S tokens in a row (seq_length, or a
part of it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PREFIX_LENGTHS = "prefix_lengths_B"
"""Of `MicroBatch.extras`, int64 [B]: the first so many tokens of a row see each other; the others see what is before
them. A model that knows it says so: `ModelConfig.sees_prefixes`."""


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass on one data rank. Tensors may be shared between batches: leave them as they are.

    Attributes:
        tokens_BS: int64, what the model reads.
        labels_BS: int64, what it should predict at each position.
        loss_mask_BS: float32, how much the loss of each position counts: for next-token labels 1 everywhere but in a
            padded sample, for masked ones 1 at the chosen positions.
        position_ids_BS: int64, position of each token within its sample (or its document, see `segment_ids_BS`).
        segment_ids_BS: int64, the number of each token's document within the sample; a token sees its own document
            only. Padding has a number of its own. None where all tokens of a sample see each other.
        number: which micro-batch of the global batch this is, over all data ranks; the same samples have the same
            number in every layout with this micro_batch_size, so dropout seeds may rest on it.
        extras: what else an objective and a family agree on, by name, such as `token_types_BS` or `pair_labels_B`.
    """

    tokens_BS: torch.Tensor
    labels_BS: torch.Tensor
    loss_mask_BS: torch.Tensor
    position_ids_BS: torch.Tensor
    segment_ids_BS: torch.Tensor | None = None
    number: int = 0
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)
