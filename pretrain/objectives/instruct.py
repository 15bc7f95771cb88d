"""Instruction tuning: of conversations, the tokens that are answers are asked for.

Shape letters: B samples in the micro-batch, S tokens that the model reads in each.
"""

from __future__ import annotations

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.causal import CausalObjective, segments_of


class InstructObjective(CausalObjective):
    """Micro-batches of conversations with `segment_ids_BS`; see `Objective`.

    A token sees its own conversation, positions start again at each, and padding behind the last is a segment of its
    own. The label of a conversation's last token does not count.
    """

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        assert samples.document_starts is not None and samples.answers is not None
        starts, (count, length) = samples.document_starts.copy(), samples.tokens.shape
        padded = np.flatnonzero(samples.num_tokens < length)
        starts[padded, samples.num_tokens[padded]] = True
        segment_ids, position_ids = segments_of(starts)
        labels, counts = np.zeros_like(samples.tokens), np.zeros((count, length), dtype=np.float32)
        labels[:, :-1] = samples.tokens[:, 1:]
        # A conversation's first token is no answer: nothing stands before it that it could follow from.
        counts[:, :-1] = samples.answers[:, 1:] & ~starts[:, 1:]
        return MicroBatch(
            tokens_BS=torch.from_numpy(samples.tokens.copy()),
            labels_BS=torch.from_numpy(labels),
            loss_mask_BS=torch.from_numpy(counts),
            position_ids_BS=position_ids,
            segment_ids_BS=segment_ids,
            number=number,
        )
