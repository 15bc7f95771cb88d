"""What the objectives of encoder-decoders have in common: micro-batches of two sides, and what is summed over them.

Shape letters: B rows of the micro-batch, S positions of the encoder, T positions of the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.counter_random import CounterRandom
from pretrain.data.samples import Samples
from pretrain.data.stream_builder import EVALUATION_SEED
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.denoising_config import DenoisingConfig
from pretrain.objectives.figures import perplexity
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.rows import PADDING_SEGMENT
from pretrain.objectives.spans import Packed
from pretrain.objectives.token_loss import TokenLoss

if TYPE_CHECKING:
    from pretrain.models.family import Output

DECODER_TOKENS = "decoder_tokens_BT"
DECODER_POSITIONS = "decoder_position_ids_BT"


class DenoisingObjective:
    """Micro-batches whose `labels_BS` and `loss_mask_BS` are the decoder's, [B, T]; see `Objective`.

    `extras` have what the decoder reads: `decoder_tokens_BT`, int64, the labels moved by one behind the model's start
    token, and `decoder_position_ids_BT`, int64. `segment_ids_BS` is -1 where the encoder reads padding, and None where
    it reads none. No row is padding alone: one without text reads the end of a text, and has no labels.

    What is random is a function of (seed, sample number, position): of neither the step, nor the layout, nor the
    micro-batch.
    """

    evaluation_names: tuple[str, ...] = ("nats", "tokens", "correct")

    def __init__(self, config: DenoisingConfig, context: ObjectiveContext) -> None:
        facts, model = context.tokens, context.model
        self._loss = TokenLoss("denoising", config, facts.vocab_size)
        self.coefficients: Mapping[str, float] = self._loss.coefficients
        self._seed = EVALUATION_SEED if context.is_evaluation else context.seed
        self.input_length, self.target_length = model.seq_length, config.target_length(model)
        self.pad = facts.role("pad")
        self._start = facts.role(getattr(model, "decoder_start_role", "pad"))

    def random(self, purpose: str) -> CounterRandom:
        """Draws for a purpose: of an evaluation the same in every run."""
        return CounterRandom(self._seed, "denoising", purpose)

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How many labels count."""
        return self._loss.weights(batch.loss_mask_BS)

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all of them, and what is trained beside them; see `TokenLoss`."""
        return self._loss.losses(output, batch.labels_BS, batch.loss_mask_BS)

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats of the labels, how many there are, and how many are the likeliest token."""
        correct = (output.is_top(batch.labels_BS) * batch.loss_mask_BS).sum()
        # Once, and last: megatron-core's loss writes over the logits.
        nats_BT = output.nll(batch.labels_BS) * batch.loss_mask_BS
        sums = {"nats": nats_BT.sum(), "tokens": batch.loss_mask_BS.sum(), "correct": correct}
        return sums | self.parts_of_nats(nats_BT, batch)

    def parts_of_nats(self, nats_BT: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """What a subclass adds up besides, from the nats of the labels: a scalar each."""
        return {}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Loss, its exponential, and the share of the labels that are the likeliest token.

        Labels are all that the decoder is to write, sentinels and the end of the text among them.
        """
        loss = sums["nats"] / sums["tokens"] if sums["tokens"] else math.nan
        return {
            "loss": loss,
            "perplexity": perplexity(loss),
            "accuracy": sums["correct"] / sums["tokens"] if sums["tokens"] else None,
        }

    def micro_batch(
        self,
        inputs: Packed,
        targets: Packed,
        number: int,
        extras: Mapping[str, torch.Tensor] | None = None,
        positions_BT: np.ndarray | None = None,
    ) -> MicroBatch:
        """The micro-batch of inputs in S columns and targets in T columns.

        Args:
            inputs: what the encoder reads, at least one token in each row.
            targets: what the decoder is to write.
            number: of the micro-batch in the global batch.
            extras: what is added to `extras`.
            positions_BT: of what the decoder reads, int64; None: 0, 1, ...
        """
        labels = targets.tokens_RN
        count, target_length = labels.shape
        columns_S, columns_T = np.arange(self.input_length), np.arange(target_length)
        decoder_tokens = np.empty_like(labels)
        decoder_tokens[:, 0], decoder_tokens[:, 1:] = self._start, labels[:, :-1]
        is_label = columns_T < targets.lengths_R[:, None]
        is_read = columns_S < inputs.lengths_R[:, None]
        segments = None if is_read.all() else torch.from_numpy(np.where(is_read, 0, PADDING_SEGMENT).astype(np.int64))
        if positions_BT is None:
            positions_BT = np.broadcast_to(columns_T, labels.shape)
        decoder = {
            DECODER_TOKENS: torch.from_numpy(decoder_tokens),
            DECODER_POSITIONS: torch.from_numpy(positions_BT.astype(np.int64)),
        }
        return MicroBatch(
            tokens_BS=torch.from_numpy(inputs.tokens_RN),
            labels_BS=torch.from_numpy(labels),
            loss_mask_BS=torch.from_numpy(is_label.astype(np.float32)),
            position_ids_BS=torch.from_numpy(columns_S.astype(np.int64)).repeat(count, 1),
            segment_ids_BS=segments,
            number=number,
            extras=decoder | dict(extras or {}),
        )


def is_text(samples: Samples) -> np.ndarray:
    """Which places of the samples hold tokens, bool [B, W]."""
    inside: np.ndarray = np.arange(samples.tokens.shape[1]) < samples.num_tokens[:, None]
    return inside


@dataclass(frozen=True)
class TextEnds:
    """The special tokens around a text.

    Attributes:
        before: the one in front; None: none.
        after: the one behind.
    """

    before: int | None
    after: int

    @classmethod
    def of(cls, facts: TokenFacts, *, add_special_tokens: bool) -> TextEnds:
        """The classification token and the separator, or the end-of-document token alone."""
        if add_special_tokens:
            return cls(facts.role("classification"), facts.role("separator"))
        return cls(None, facts.role("end_of_document"))

    @property
    def num_before(self) -> int:
        """Tokens in front."""
        return 0 if self.before is None else 1

    def around(self, text: Packed, width: int, pad: int, *, empty: bool = True) -> Packed:
        """Rows of `width` columns with the special tokens around each text; around an empty one only if `empty`."""
        count, length = text.tokens_RN.shape
        tokens = np.full((count, width), pad, dtype=np.int64)
        columns, lengths = np.arange(length), text.lengths_R
        inside = columns < lengths[:, None]
        tokens[:, self.num_before : self.num_before + length][inside] = text.tokens_RN[inside]
        filled = np.full(count, True) if empty else lengths > 0
        if self.before is not None:
            tokens[filled, 0] = self.before
        return Packed(tokens, np.where(filled, lengths + self.num_before, 0)).with_last(self.after, filled)
