"""Source and target texts as numbers, and the loss of writing the one for the other.

Shape letters: B pairs of a micro-batch, S tokens that are read, T tokens that are predicted, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import batches
from finetune.sequence_template import SequenceTemplate
from finetune.tasks.label_logits import LabelLogits

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a place where nothing is asked."""


@dataclass(frozen=True)
class SequencePairs:
    """Pairs of a source and a target.

    Attributes:
        sources: token ids of each source, as the model reads it.
        targets: the labels of each target.
        template: of the model.
        start: the first token that an encoder-decoder's decoder reads; None for a decoder alone.
        references: the target texts.
        cut_sources: how many sources were longer than what is read.
        cut_targets: how many targets were longer than what is learned.
    """

    sources: list[list[int]]
    targets: list[list[int]]
    template: SequenceTemplate
    start: int | None
    references: list[str]
    cut_sources: int = 0
    cut_targets: int = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair."""
        return [len(source) + len(target) for source, target in zip(self.sources, self.targets)]

    @property
    def weights(self) -> list[float]:
        """Each token of a target counts once."""
        return [float(len(target)) for target in self.targets]


def target_logits(
    model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model says of targets: fp32 logits [B, T, V]; and labels [B, T], -100 where none is asked."""
    sources, targets = ([rows[number] for number in numbers] for rows in (part.sources, part.targets))
    pad = part.template.pad
    if part.start is None:
        whole = [source + target for source, target in zip(sources, targets)]
        tokens_BS, mask_BS = batches.collate(whole, pad)
        labels_BS = _labels([[IGNORED] * len(s) + t for s, t in zip(sources, targets)], tokens_BS.shape[1])
        logits_BSV = model(input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device)).logits
        return logits_BSV[:, :-1].float(), labels_BS[:, 1:].to(device)
    tokens_BS, mask_BS = batches.collate(sources, pad)
    read_BT, _ = batches.collate([[part.start, *target[:-1]] for target in targets], pad)
    labels_BT = _labels(targets, read_BT.shape[1])
    logits_BTV = model(
        input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device), decoder_input_ids=read_BT.to(device)
    ).logits
    return logits_BTV.float(), labels_BT.to(device)


def target_label_logits(model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device) -> LabelLogits:
    """A prediction for each token of the targets; the labels are the vocabulary."""
    import torch

    logits_BTV, labels_BT = target_logits(model, part, numbers, device)
    real_BT = labels_BT != IGNORED
    gold_N, owner_N = labels_BT[real_BT], real_BT.nonzero()[:, 0]
    return LabelLogits(logits_BTV[real_BT], gold_N, torch.ones(len(gold_N), device=device), owner_N)


def target_losses(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Nats of each target, summed over its tokens; fp32 [B]."""
    import torch

    losses_BT = torch.nn.functional.cross_entropy(
        logits_BTV.transpose(1, 2), labels_BT, reduction="none", ignore_index=IGNORED
    )
    return losses_BT.sum(1)


def targets_hit(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """How many tokens of each target are the most probable one; int64 [B]."""
    return ((logits_BTV.argmax(-1) == labels_BT) & (labels_BT != IGNORED)).sum(1)


def _labels(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    import torch

    labels = torch.full((len(rows), width), IGNORED, dtype=torch.int64)
    for number, row in enumerate(rows):
        labels[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return labels
