"""Micro-batches of several objectives joined into one, and taken apart again.

Shape letters: B rows of the micro-batch, S positions in each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pretrain.data.batch import MicroBatch

_ROWS = "rows of {}"
"""Name in `extras` of the numbers of an objective's rows, int64. Their count is a shape: nobody waits for the GPU."""
NEUTRAL = {"cross_visible_BS": True}
"""What rows have where their objective made nothing of that name, and 0 does not mean nothing."""


def joined(batches: Mapping[str, MicroBatch], number: int) -> MicroBatch:
    """One micro-batch of the rows of all, in the order of `batches`.

    Where one of them has document numbers or `extras` that another lacks, the other's rows have zeros (or what
    `NEUTRAL` says): one document, no prefix, the first token type.

    Args:
        batches: by the name of the objective, of rows of equal length; none of them empty.
        number: of the micro-batch.
    """
    parts = list(batches.values())
    begins, extras = 0, {}
    for name, batch in batches.items():
        extras[_ROWS.format(name)] = torch.arange(begins, begins + len(batch.tokens_BS))
        begins += len(batch.tokens_BS)
    for key in dict.fromkeys(key for batch in parts for key in batch.extras):
        example = next(batch.extras[key] for batch in parts if key in batch.extras)
        blank = NEUTRAL.get(key, 0)
        extras[key] = torch.cat(
            [
                batch.extras[key]
                if key in batch.extras
                else example.new_full((len(batch.tokens_BS), *example.shape[1:]), blank)
                for batch in parts
            ]
        )
    segments = None
    if any(batch.segment_ids_BS is not None for batch in parts):
        alone = [torch.zeros_like(batch.tokens_BS) for batch in parts]
        segments = torch.cat(
            [zeros if b.segment_ids_BS is None else b.segment_ids_BS for b, zeros in zip(parts, alone, strict=True)]
        )
    return MicroBatch(
        tokens_BS=torch.cat([batch.tokens_BS for batch in parts]),
        labels_BS=torch.cat([batch.labels_BS for batch in parts]),
        loss_mask_BS=torch.cat([batch.loss_mask_BS for batch in parts]),
        position_ids_BS=torch.cat([batch.position_ids_BS for batch in parts]),
        segment_ids_BS=segments,
        number=number,
        extras=extras,
    )


def rows_of(batch: MicroBatch, name: str) -> torch.Tensor | None:
    """The numbers of the rows of an objective; None: it has none."""
    return batch.extras.get(_ROWS.format(name))


def part_of(batch: MicroBatch, rows: torch.Tensor) -> MicroBatch:
    """The micro-batch of some rows of a joined one."""
    segments = batch.segment_ids_BS
    return MicroBatch(
        tokens_BS=batch.tokens_BS[rows],
        labels_BS=batch.labels_BS[rows],
        loss_mask_BS=batch.loss_mask_BS[rows],
        position_ids_BS=batch.position_ids_BS[rows],
        segment_ids_BS=None if segments is None else segments[rows],
        number=batch.number,
        extras={key: value[rows] for key, value in batch.extras.items() if len(value) == len(batch.tokens_BS)},
    )
