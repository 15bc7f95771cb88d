"""The mixture of denoisers: spans of a text are dropped in a way that is drawn for each sample, say which they were.

Shape letters: B rows of the micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.span_corruption import SpanDroppingObjective
from pretrain.objectives.ul2_config import MixtureOfDenoisersConfig

DENOISER = "denoiser_B"


class MixtureOfDenoisersObjective(SpanDroppingObjective):
    """Micro-batches of texts without spans, many or few, short or long (Tay et al. 2022, UL2, section 3.1.2, table 1).

    Rows are those of `SpanCorruptionObjective`, with a mode token in front. Sequential denoising keeps a prefix, behind
    which the one sentinel stands, and asks for the rest. `extras` have `denoiser_B`, int64, the number of what was
    drawn. Denoisers that need less room leave padding.
    """

    def __init__(self, config: MixtureOfDenoisersConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self._noises = [denoiser.noise for denoiser in config.mixture]
        self._labels = [denoiser.label for denoiser in config.mixture]
        self._modes = None
        if config.mode_tokens:
            self._modes = np.array([context.tokens.role(denoiser.role) for denoiser in config.mixture])
        weights = np.array([denoiser.weight for denoiser in config.mixture])
        self._ends_of_shares = np.cumsum(weights / weights.sum())[:-1]
        self._which = self.random("denoiser")
        sums = (f"{what}_{label}" for label in self._labels for what in ("nats", "tokens"))
        self.evaluation_names = (*SpanDroppingObjective.evaluation_names, *sums)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        uniform = self._which.uniform(samples.numbers, np.zeros_like(samples.numbers))
        drawn = np.searchsorted(self._ends_of_shares, uniform, side="right")
        pairs = zip(drawn.tolist(), samples.num_tokens.tolist())
        counts = np.array([self._noises[which].counts(length) for which, length in pairs], dtype=np.int64)
        inputs, targets = self.without_spans(samples, counts)
        if self._modes is not None:
            inputs = inputs.with_first(self._modes[drawn])
        return self.micro_batch(inputs, targets, number, {DENOISER: torch.from_numpy(drawn.astype(np.int64))})

    def parts_of_nats(self, nats_BT: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats of the labels, and how many there are, of each denoiser."""
        sums: dict[str, torch.Tensor] = {}
        nats_B, tokens_B, drawn_B = nats_BT.sum(1), batch.loss_mask_BS.sum(1), batch.extras[DENOISER]
        for number, label in enumerate(self._labels):
            here_B = drawn_B == number
            sums |= {f"nats_{label}": (nats_B * here_B).sum(), f"tokens_{label}": (tokens_B * here_B).sum()}
        return sums

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of `DenoisingObjective`, and the loss of each denoiser, such as `loss_regular_3_0.15`."""
        figures = super().figures(sums)
        for label in self._labels:
            tokens = sums[f"tokens_{label}"]
            figures[f"loss_{label}"] = sums[f"nats_{label}"] / tokens if tokens else None
        return figures
