"""Prefix language modelling: a prefix of each sample is read in both directions, the rest is asked for.

Shape letters: B samples in the micro-batch, S tokens that the model reads in each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pretrain.data.batch import PREFIX_LENGTHS, MicroBatch
from pretrain.data.counter_random import CounterRandom
from pretrain.data.samples import Samples
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.prefix_config import PrefixConfig


class PrefixObjective(CausalObjective):
    """Micro-batches of the causal objective with `extras["prefix_lengths_B"]`, int64; see `Objective`.

    Of a sample with L labels the prefix has 1 to L tokens, uniformly within `prefix_share`; labels within it count
    nothing, for the tokens before them see them. Its length is a function of (seed, sample number).
    """

    def __init__(self, config: PrefixConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        share = config.evaluation_prefix_share
        self._range = (share, share) if context.is_evaluation else config.prefix_share
        self._draws = CounterRandom(context.seed, "prefix length")

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        plain = super().batch(samples, number)
        labels = np.maximum(samples.num_tokens - 1, 1)
        least, most = (np.clip((share * labels).astype(np.int64), 1, labels) for share in self._range)
        lengths = least + self._draws.below(most - least + 1, samples.numbers, np.zeros_like(samples.numbers))
        # The last token of the prefix asks for the first behind it.
        is_asked = np.arange(plain.loss_mask_BS.shape[1]) >= lengths[:, None] - 1
        return replace(
            plain,
            loss_mask_BS=plain.loss_mask_BS * torch.from_numpy(is_asked),
            extras={PREFIX_LENGTHS: torch.from_numpy(lengths)},
        )
