"""Fill in the middle: next-token prediction in documents whose middle was moved behind the rest.

Shape letters: B samples in the micro-batch (of an evaluation twice as many rows), S tokens that the model reads in
each, W = S + 1 tokens of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.causal import CausalObjective, segments_of
from pretrain.objectives.fill_in_middle_config import FillInMiddleConfig
from pretrain.objectives.moved_middles import MIDDLE, NOTHING, PREFIX, SUFFIX, InfilledRows, Infilling
from pretrain.objectives.objective import ObjectiveContext

if TYPE_CHECKING:
    from pretrain.models.family import Output

_INFILLING_SUMS = ("middle_nats", "middle_causal_nats", "middle_tokens", "dropped_tokens", "text_tokens")
_MIDDLES, _DROPPED, _TEXT = "middle_mask_BS", "dropped_tokens_B", "text_tokens_B"


class FillInMiddleObjective(CausalObjective):
    """Micro-batches of rows in which some documents are rearranged; all labels count, those of sentinels too.

    Rearranging is at what the paper's section 3.2 calls context level: after the text was cut into samples. Of each
    document it is the part that lies in the sample that is rearranged, so that no row holds a suffix whose middle
    stands in another row; a document that lies in it wholly is rearranged as a whole. Borders between the parts are
    between tokens, not characters as in the paper: a corpus keeps tokens, and text that is cut within one would have
    to be tokenized anew. A model is therefore not taught to go on in the middle of a token: whoever infills ends the
    prefix where a token ends.

    A row has as many tokens as the sample: it drops 3 at its end for each rearranged document.

    An evaluation reads each sample twice: as it stands, for the figures of the causal objective, and with all of its
    documents rearranged, half of them in either order, for `infill_loss`.
    """

    def __init__(self, config: FillInMiddleConfig, context: ObjectiveContext) -> None:
        super().__init__(config, context)
        self._is_evaluation = context.is_evaluation
        if context.is_evaluation:
            self.evaluation_names = (*self.evaluation_names, *_INFILLING_SUMS)
        roles = context.tokens.roles
        borders = roles.get("beginning_of_document"), roles.get("end_of_document")
        self._infilling = Infilling(config.fim_rate, config.spm_rate, *borders, context.seed)
        self._all = Infilling(1.0, 0.5, *borders, context.seed)
        self._sentinels = np.zeros(1 - NOTHING, dtype=np.int64)
        for code, role in ((PREFIX, "fim_prefix"), (SUFFIX, "fim_suffix"), (MIDDLE, "fim_middle")):
            self._sentinels[-code] = context.tokens.role(role)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        if not self._is_evaluation:
            return self._infilled(samples, self._infilling.rows(samples), number)
        plain, rows = super().batch(samples, number), self._all.rows(samples)
        infilled = self._infilled(samples, rows, number)
        middles, plain_middles = _middle_labels(rows, infilled.loss_mask_BS, plain.loss_mask_BS)
        dropped, text = self._infilling.rows(samples).dropped_B, samples.num_tokens
        both = [plain, replace(infilled, loss_mask_BS=torch.zeros_like(infilled.loss_mask_BS))]
        segments = [batch.segment_ids_BS for batch in both if batch.segment_ids_BS is not None]
        return MicroBatch(
            tokens_BS=torch.cat([batch.tokens_BS for batch in both]),
            labels_BS=torch.cat([batch.labels_BS for batch in both]),
            loss_mask_BS=torch.cat([batch.loss_mask_BS for batch in both]),
            position_ids_BS=torch.cat([batch.position_ids_BS for batch in both]),
            segment_ids_BS=torch.cat(segments) if segments else None,
            number=number,
            extras={
                _MIDDLES: torch.cat([plain_middles, middles]),
                _DROPPED: torch.from_numpy(np.concatenate([dropped, np.zeros_like(dropped)])),
                _TEXT: torch.from_numpy(np.concatenate([text, np.zeros_like(text)])),
            },
        )

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of the causal objective over the samples as they stand.

        Nats of the middles' tokens where they follow prefix and suffix, and of the same tokens where they stand in
        the text; how many they are; tokens that rows of training would drop, of how many.
        """
        nats_BS = output.nll(batch.labels_BS)
        if not self._is_evaluation:
            return self._sums(nats_BS, batch)
        middle_nats_BS = nats_BS * batch.extras[_MIDDLES]
        half = len(nats_BS) // 2
        return self._sums(nats_BS, batch) | {
            "middle_nats": middle_nats_BS[half:].sum(),
            "middle_causal_nats": middle_nats_BS[:half].sum(),
            "middle_tokens": batch.extras[_MIDDLES][half:].sum(),
            "dropped_tokens": batch.extras[_DROPPED].sum(),
            "text_tokens": batch.extras[_TEXT].sum(),
        }

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of the causal objective, and of infilling.

        `infill_loss` is the mean loss of the middles' tokens, given prefix and suffix; `infill_causal_loss` that of
        the same tokens where they stand in the text, given what comes before: the difference is what the suffix
        tells. `infill_dropped` is the share of the text that rows of training drop to make room for sentinels.
        """
        if not self._is_evaluation:
            return super().figures(sums)
        tokens, text = sums["middle_tokens"], sums["text_tokens"]
        return super().figures(sums) | {
            "infill_loss": sums["middle_nats"] / tokens if tokens else None,
            "infill_causal_loss": sums["middle_causal_nats"] / tokens if tokens else None,
            "infill_dropped": sums["dropped_tokens"] / text if text else None,
        }

    def _infilled(self, samples: Samples, rows: InfilledRows, number: int) -> MicroBatch:
        source = rows.source_BW
        is_text = source >= 0
        at = np.where(is_text, source, 0)
        tokens = np.where(
            is_text, np.take_along_axis(samples.tokens, at, axis=1), self._sentinels[-np.minimum(source, 0)]
        )
        counts = source != NOTHING
        if samples.joined is not None:
            # What was read before is a label already.
            counts &= ~(np.take_along_axis(samples.joined, at, axis=1) & is_text)
        positions = torch.arange(tokens.shape[1] - 1).repeat(len(tokens), 1)
        segments = None
        if self._documents_apart:
            segments, positions = segments_of(rows.starts_BW[:, :-1])
        return MicroBatch(
            tokens_BS=torch.from_numpy(tokens[:, :-1].copy()),
            labels_BS=torch.from_numpy(tokens[:, 1:].copy()),
            loss_mask_BS=torch.from_numpy(counts[:, 1:].astype(np.float32)),
            position_ids_BS=positions,
            segment_ids_BS=segments,
            number=number,
        )


def _middle_labels(
    rows: InfilledRows, infilled_BS: torch.Tensor, plain_BS: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which labels are tokens of a middle, float32 [B, S]: in the rows, and the same tokens in the samples.

    Args:
        rows: where the rows' tokens come from.
        infilled_BS: loss mask of the rows.
        plain_BS: loss mask of the samples as they stand.
    """
    plain = np.pad(plain_BS.numpy() > 0, ((0, 0), (1, 0)))  # the first token is no label
    source = np.maximum(rows.source_BW, 0)
    middles = rows.is_middle_BW & np.take_along_axis(plain, source, axis=1)
    middles[:, 1:] &= infilled_BS.numpy() > 0
    middles[:, 0] = False
    in_samples = np.zeros_like(plain)
    at_rows, at_columns = np.nonzero(middles)
    in_samples[at_rows, source[at_rows, at_columns]] = True
    return _as_mask(middles), _as_mask(in_samples)


def _as_mask(tokens_BW: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tokens_BW[:, 1:].astype(np.float32))
