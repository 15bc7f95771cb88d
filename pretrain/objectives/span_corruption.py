"""Span corruption: spans of a text are dropped, say which they were.

Shape letters: B rows of the micro-batch, W tokens of text in each.
"""

from __future__ import annotations

import numpy as np

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.denoising import DenoisingObjective, is_text
from pretrain.objectives.denoising_config import DenoisingConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.span_corruption_config import SpanCorruptionConfig
from pretrain.objectives.spans import Packed, noise_mask, with_sentinels


class SpanDroppingObjective(DenoisingObjective):
    """What objectives have in common that drop spans of a text, `<extra_id_0>` in place of the first."""

    def __init__(self, config: DenoisingConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self.sentinels = context.tokens.sentinel_ids(config.num_sentinels(context.model))
        self._end = context.tokens.role("end_of_document")
        self._kept_spans, self._noise_spans = self.random("kept spans"), self.random("noise spans")

    def without_spans(
        self, samples: Samples, counts_B2: np.ndarray, *, final_sentinel: bool = False
    ) -> tuple[Packed, Packed]:
        """Inputs and targets.

        Args:
            samples: the texts.
            counts_B2: tokens to drop of each, and spans, int64; see `SpanNoise.counts`.
            final_sentinel: whether targets end with one more sentinel.
        """
        columns, numbers = np.arange(samples.tokens.shape[1]), samples.numbers[:, None]
        kept_keys, noise_keys = (draws.bits(numbers, columns) for draws in (self._kept_spans, self._noise_spans))
        text = is_text(samples)
        dropped = noise_mask(kept_keys, noise_keys, samples.num_tokens, counts_B2)
        inputs = with_sentinels(samples.tokens, text, dropped, self.sentinels, self.input_length, self.pad)
        has_labels = counts_B2[:, 1] > 0
        asked = text & has_labels[:, None]
        targets = with_sentinels(samples.tokens, asked, asked & ~dropped, self.sentinels, self.target_length, self.pad)
        if final_sentinel:
            targets = targets.with_last(self.sentinels[counts_B2[:, 1]], has_labels)
        return inputs.with_last(self._end), targets.with_last(self._end, has_labels)


class SpanCorruptionObjective(SpanDroppingObjective):
    """Micro-batches of texts without some of their spans (Raffel et al. 2020, section 3.1.4); see `DenoisingObjective`.

    Input: the text with each dropped span as one sentinel, `<extra_id_0>` first, then the end of the text. Target: each
    sentinel and the span that it stands for, then the end of the text. The end-of-document token is that end; one that
    stands within the text is a token like others.
    """

    def __init__(self, config: SpanCorruptionConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self._noise, self._final_sentinel = config.noise, config.final_sentinel

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        counts = np.array([self._noise.counts(length) for length in samples.num_tokens.tolist()], dtype=np.int64)
        return self.micro_batch(
            *self.without_spans(samples, counts, final_sentinel=self._final_sentinel), number=number
        )
