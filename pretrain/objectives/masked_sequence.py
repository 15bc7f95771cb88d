"""Masked sequences: one fragment of a text is masked, write it.

Shape letters: B rows of the micro-batch, W tokens of text in each, S positions of the encoder, T of the decoder.
"""

from __future__ import annotations

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.denoising import DenoisingObjective, TextEnds
from pretrain.objectives.masked_sequence_config import MaskedSequenceConfig
from pretrain.objectives.masking import Replacement
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.spans import Packed

CROSS_VISIBLE = "cross_visible_BS"


class MaskedSequenceObjective(DenoisingObjective):
    """Micro-batches of texts with one masked fragment (Song et al. 2019, section 3.2); see `DenoisingObjective`.

    Input: the text; of the fragment's tokens most read the mask, some a random token, some their own. Target: the
    fragment. The decoder reads it alone, moved by one behind the start token: what comes before the fragment is masked
    for it, as what is in it is for the encoder (figure 1 of the paper; its own program lets the decoder begin with the
    token before). `decoder_position_ids_BT` are the places that the labels have in the input. `extras` have
    `cross_visible_BS`, bool: what the decoder may see of the input, which is neither padding nor the fragment.
    """

    def __init__(self, config: MaskedSequenceConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        facts, self._config = context.tokens, config
        self._ends = TextEnds.of(facts, add_special_tokens=config.add_special_tokens)
        candidates = np.ones(facts.vocab_size, dtype=np.bool_)
        candidates[facts.special_ids] = False
        self._replacement = Replacement(
            by_mask=config.replaced_by_mask,
            by_random=config.replaced_by_random,
            mask_id=facts.role("mask"),
            candidates=np.flatnonzero(candidates),
        )
        purposes = ("fragment", "replacement", "random tokens")
        self._fragments, self._kinds, self._random = (self.random(purpose) for purpose in purposes)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        tokens, lengths = samples.tokens, samples.num_tokens
        sizes = np.array([self._config.fragment_tokens(length) for length in lengths.tolist()], dtype=np.int64)
        # Counter 0 of each sample; a text of n tokens has n - k + 1 fragments of k.
        begins = self._fragments.below(lengths - sizes + 1, samples.numbers, np.zeros_like(lengths))
        columns = np.arange(tokens.shape[1])
        fragment = (columns >= begins[:, None]) & (columns < (begins + sizes)[:, None])
        rows, places = np.nonzero(fragment)
        kinds, which = (draws.uniform(samples.numbers[rows], places) for draws in (self._kinds, self._random))
        damaged = tokens.copy()
        damaged[fragment] = self._replacement(tokens[fragment], kinds, which)
        inputs = self._ends.around(Packed(damaged, lengths), self.input_length, self.pad)
        targets = Packed.of(tokens, fragment, self.target_length, self.pad)

        visible = np.arange(self.input_length) < inputs.lengths_R[:, None]
        visible[rows, places + self._ends.num_before] = False
        # Behind the fragment the positions go no further: there is none beyond those of the text.
        within = np.minimum(np.arange(self.target_length), np.maximum(sizes - 1, 0)[:, None])
        positions = begins[:, None] + within + self._ends.num_before
        return self.micro_batch(inputs, targets, number, {CROSS_VISIBLE: torch.from_numpy(visible)}, positions)
