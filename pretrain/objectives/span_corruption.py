"""Span corruption: spans of a text are dropped, say which they were.

Shape letters: B rows of the micro-batch, W tokens of text in each.
"""

from __future__ import annotations

import numpy as np

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.denoising import DenoisingObjective, is_text
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.span_corruption_config import SpanCorruptionConfig
from pretrain.objectives.spans import noise_mask, with_sentinels


class SpanCorruptionObjective(DenoisingObjective):
    """Micro-batches of texts without some of their spans (Raffel et al. 2020, section 3.1.4); see `DenoisingObjective`.

    Input: the text with each dropped span as one sentinel, `<extra_id_0>` first, then the end of the text. Target: each
    sentinel and the span that it stands for, then the end of the text. The end-of-document token is that end; one that
    stands within the text is a token like others.
    """

    def __init__(self, config: SpanCorruptionConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self._noise, self._final = config.noise, config.final_sentinel
        self._sentinels = context.tokens.sentinel_ids(config.num_sentinels(context.model))
        self._end = context.tokens.role("end_of_document")
        self._kept_spans, self._noise_spans = self.random("kept spans"), self.random("noise spans")

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        columns, numbers = np.arange(samples.tokens.shape[1]), samples.numbers[:, None]
        counts = np.array([self._noise.counts(length) for length in samples.num_tokens.tolist()], dtype=np.int64)
        kept_keys, noise_keys = (draws.bits(numbers, columns) for draws in (self._kept_spans, self._noise_spans))
        text = is_text(samples)
        dropped = noise_mask(kept_keys, noise_keys, samples.num_tokens, counts)
        inputs = with_sentinels(samples.tokens, text, dropped, self._sentinels, self.input_length, self.pad)
        has_labels = counts[:, 1] > 0
        asked = text & has_labels[:, None]
        targets = with_sentinels(samples.tokens, asked, asked & ~dropped, self._sentinels, self.target_length, self.pad)
        if self._final:
            targets = targets.with_last(self._sentinels[counts[:, 1]], has_labels)
        return self.micro_batch(inputs.with_last(self._end), targets.with_last(self._end, has_labels), number)
