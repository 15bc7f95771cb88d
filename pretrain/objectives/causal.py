"""The causal objective: predict the next token at each position.

Shape letters: B samples in the micro-batch, S tokens that the model reads in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.figures import bits_per_byte, perplexity
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.token_loss import TokenLoss
from pretrain.objectives.token_loss_config import TokenLossConfig

if TYPE_CHECKING:
    from pretrain.models.family import Output


class CausalObjective:
    """Micro-batches whose labels are the tokens moved by one; see `Objective`.

    The label of a document's last token is the next document's first: packed documents are one text. Where documents
    are apart, `segment_ids_BS` is set, and positions start again at each document.
    """

    evaluation_names: tuple[str, ...] = ("nats", "tokens", "bytes")

    def __init__(self, config: TokenLossConfig, context: ObjectiveContext) -> None:
        self._loss = TokenLoss("lm", config, context.tokens.vocab_size)
        self.coefficients: Mapping[str, float] = self._loss.coefficients
        self._documents_apart = context.documents_apart
        sizes = context.tokens.token_bytes
        self._token_bytes = None if sizes is None else torch.from_numpy(sizes).double()

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        seq_length = samples.tokens.shape[1] - 1
        every, position_ids = _constants(*samples.tokens[:, 1:].shape)
        loss_mask, segment_ids = every, None
        if int(samples.num_tokens.min()) <= seq_length:
            counting = np.arange(seq_length) < samples.num_tokens[:, None] - 1
            loss_mask = torch.from_numpy(counting.astype(np.float32))
        if samples.joined is not None:
            # What was read before is a label already, and what stands before it is not its context.
            loss_mask = loss_mask * torch.from_numpy(~samples.joined[:, 1:])
        if self._documents_apart:
            assert samples.document_starts is not None
            segment_ids, position_ids = segments_of(samples.document_starts[:, :-1])
        return MicroBatch(
            tokens_BS=torch.from_numpy(samples.tokens[:, :-1].copy()),
            labels_BS=torch.from_numpy(samples.tokens[:, 1:].copy()),
            loss_mask_BS=loss_mask,
            position_ids_BS=position_ids,
            segment_ids_BS=segment_ids,
            number=number,
        )

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How many labels count."""
        return self._loss.weights(batch.loss_mask_BS)

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all labels, and what is trained beside them; see `TokenLoss`."""
        return self._loss.losses(output, batch.labels_BS, batch.loss_mask_BS)

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats, labels, and the UTF-8 bytes of the labels (0 where unknown)."""
        return self._sums(output.nll(batch.labels_BS), batch)

    def _sums(self, nats_BS: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        label_bytes = torch.zeros((), dtype=torch.float64, device=batch.labels_BS.device)
        if self._token_bytes is not None:
            self._token_bytes = self._token_bytes.to(batch.labels_BS.device)
            label_bytes = (self._token_bytes[batch.labels_BS] * batch.loss_mask_BS).sum()
        nats = (nats_BS * batch.loss_mask_BS).sum()
        return {"nats": nats, "tokens": batch.loss_mask_BS.sum(), "bytes": label_bytes}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Loss, perplexity, bits per byte.

        Raises:
            ValueError: there were no labels.
        """
        if not sums["tokens"]:
            raise ValueError("the evaluation has no labels")
        loss = sums["nats"] / sums["tokens"]
        return {
            "loss": loss,
            "perplexity": perplexity(loss),
            "bits_per_byte": bits_per_byte(sums["nats"], sums["bytes"]),
        }


@lru_cache(maxsize=4)
def _constants(count: int, seq_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss mask of ones and positions 0, 1, ...: the same two tensors for every micro-batch of this shape."""
    return torch.ones(count, seq_length), torch.arange(seq_length).repeat(count, 1)


def segments_of(document_starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
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
