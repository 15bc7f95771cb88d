"""Text infilling: masks stand in place of spans of a shuffled text, write the text.

Shape letters: B rows of the micro-batch, W tokens of text in each, T positions of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.denoising import DenoisingObjective, TextEnds, is_text
from pretrain.objectives.infilling import draw_spans, infill, sentence_order
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.spans import Packed
from pretrain.objectives.text_infilling_config import TextInfillingConfig

HIDDEN = "hidden_BT"


class TextInfillingObjective(DenoisingObjective):
    """Micro-batches of texts with masks (Lewis et al. 2020, section 2.2); see `DenoisingObjective`.

    Input: the sentences of each document shuffled, then spans of words replaced by one mask each, and masks inserted.
    Target: the text as it was. `extras` have `hidden_BT`, float32: 1 for the labels that are behind a mask.
    """

    evaluation_names: tuple[str, ...] = (*DenoisingObjective.evaluation_names, "hidden_nats", "hidden_tokens")

    def __init__(self, config: TextInfillingConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        facts = context.tokens
        self._config = config
        self._mask = facts.role("mask")
        self._ends = TextEnds.of(facts, add_special_tokens=config.add_special_tokens)
        self._is_special = np.zeros(facts.vocab_size, dtype=np.bool_)
        self._is_special[facts.special_ids] = True
        self._word_starts = facts.require_word_starts() if config.reads_words else None
        purposes = ("sentence order", "span lengths", "span places")
        self._order, self._lengths, self._places = (self.random(purpose) for purpose in purposes)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        tokens, text = samples.tokens, is_text(samples)
        columns = np.arange(tokens.shape[1])
        begins = self._begins_word(samples)
        order = np.broadcast_to(columns, tokens.shape)
        if self._config.permute_sentences:
            assert samples.sentence_starts is not None and samples.document_starts is not None
            keys = self._order.bits(samples.numbers[:, None], columns)
            order = sentence_order(text, samples.sentence_starts, samples.document_starts, keys)
        read, begins = (np.take_along_axis(values, order, axis=1) for values in (tokens, begins))
        budgets = np.ceil((begins & text).sum(axis=1) * self._config.mask_rate).astype(np.int64)
        spans = draw_spans(self._lengths, samples.numbers, budgets, self._config.mean_span_length)
        keys = self._places.bits(samples.numbers[:, None], columns)
        damaged = infill(read, text, begins, spans, keys, self._mask, self.pad)
        inputs = self._ends.around(damaged.packed, self.input_length, self.pad)
        targets = self._ends.around(Packed(tokens, samples.num_tokens), self.target_length, self.pad, empty=False)
        hidden = np.zeros(targets.tokens_RN.shape, dtype=np.float32)
        rows, places = np.nonzero(damaged.is_hidden_RW)
        hidden[rows, order[rows, places] + self._ends.num_before] = 1
        return self.micro_batch(inputs, targets, number, {HIDDEN: torch.from_numpy(hidden)})

    def parts_of_nats(self, nats_BT: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats and number of the labels that are behind a mask."""
        hidden_BT = batch.extras[HIDDEN]
        return {"hidden_nats": (nats_BT * hidden_BT).sum(), "hidden_tokens": hidden_BT.sum()}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of `DenoisingObjective`, and `infilled_loss`: that of the labels behind masks.

        Most of a target stands in the input and is copied, so that `loss` is low without any of the rest.
        """
        hidden = sums["hidden_tokens"]
        return super().figures(sums) | {"infilled_loss": sums["hidden_nats"] / hidden if hidden else None}

    def _begins_word(self, samples: Samples) -> np.ndarray:
        """Whose token begins a word, bool [B, W]: a special token is one, and the first behind one begins one."""
        if self._word_starts is None:
            return np.ones(samples.tokens.shape, dtype=np.bool_)
        special = self._is_special[samples.tokens]
        begins = self._word_starts[samples.tokens] | special
        begins[:, 0] = True
        begins[:, 1:] |= special[:, :-1]
        for starts in (samples.sentence_starts, samples.document_starts):
            if starts is not None:
                begins |= starts
        return begins
