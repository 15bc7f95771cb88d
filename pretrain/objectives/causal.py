"""The causal objective: at each position, say the next token.

Shape letters: B samples in the micro-batch, S tokens that the model reads in each.
"""

from __future__ import annotations

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples


class CausalObjective:
    """Makes micro-batches whose labels are the tokens moved by one.

    The label of a document's last token is the next document's first: packed documents are one text.

    Args:
        reset_at_documents: whether each document is a world of its own: `segment_ids_BS` is set, and positions start
            again at each document.
    """

    def __init__(self, *, reset_at_documents: bool = False) -> None:
        self.needs_documents = reset_at_documents
        """Whether samples must come with `document_starts`."""

    def __call__(self, samples: Samples, number: int) -> MicroBatch:
        """The micro-batch of `samples`, with its number in the global batch."""
        count, seq_length = samples.tokens.shape[0], samples.tokens.shape[1] - 1
        positions = np.arange(seq_length)
        segments = None
        if self.needs_documents:
            assert samples.document_starts is not None
            starts = samples.document_starts[:, :-1].copy()
            # A sample may begin in the middle of a document; its rest is the first segment.
            starts[:, 0] = True
            segments = torch.from_numpy(np.cumsum(starts, axis=1) - 1)
            positions = positions - np.maximum.accumulate(np.where(starts, positions, 0), axis=1)
        loss_mask = np.arange(seq_length) < samples.num_labels[:, None]
        return MicroBatch(
            tokens_BS=torch.from_numpy(samples.tokens[:, :-1].copy()),
            labels_BS=torch.from_numpy(samples.tokens[:, 1:].copy()),
            loss_mask_BS=torch.from_numpy(loss_mask.astype(np.float32)),
            position_ids_BS=torch.from_numpy(np.broadcast_to(positions, (count, seq_length)).copy()),
            segment_ids_BS=segments,
            number=number,
        )
