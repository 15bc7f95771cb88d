"""The causal objective: at each position, say the next token.

Shape letters: B samples in the micro-batch, S tokens that the model reads in each.
"""

from __future__ import annotations

from functools import lru_cache

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
        seq_length = samples.tokens.shape[1] - 1
        every, position_ids = _constants(*samples.tokens[:, 1:].shape)
        loss_mask, segment_ids = every, None
        if int(samples.num_labels.min()) < seq_length:
            counting = np.arange(seq_length) < samples.num_labels[:, None]
            loss_mask = torch.from_numpy(counting.astype(np.float32))
        if self.needs_documents:
            assert samples.document_starts is not None
            segment_ids, position_ids = _segments(samples.document_starts[:, :-1])
        return MicroBatch(
            tokens_BS=torch.from_numpy(samples.tokens[:, :-1].copy()),
            labels_BS=torch.from_numpy(samples.tokens[:, 1:].copy()),
            loss_mask_BS=loss_mask,
            position_ids_BS=position_ids,
            segment_ids_BS=segment_ids,
            number=number,
        )


@lru_cache(maxsize=4)
def _constants(count: int, seq_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss mask of ones and positions 0, 1, ...: the same two tensors for every micro-batch of this shape."""
    return torch.ones(count, seq_length), torch.arange(seq_length).repeat(count, 1)


def _segments(document_starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of each token's document within its sample, and place of the token in it, int64 [B, S] each."""
    starts = document_starts.copy()
    # A sample may begin in the middle of a document; its rest is the first segment.
    starts[:, 0] = True
    first = np.flatnonzero(starts)
    length = np.diff(first, append=starts.size)
    before = np.cumsum(starts.sum(axis=1)) - starts.sum(axis=1)
    number = np.arange(len(first)) - before[first // starts.shape[1]]
    segments = np.repeat(number, length).reshape(starts.shape)
    positions = (np.arange(starts.size) - np.repeat(first, length)).reshape(starts.shape)
    return torch.from_numpy(segments), torch.from_numpy(positions)
