"""A masked objective for made-up batches, with or without pairs of texts.

Shape letters: B micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch

from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig, SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.objective import ObjectiveContext

if TYPE_CHECKING:
    from pretrain.models.family import Output


class MadeUpMaskedConfig(ObjectiveConfig):
    """Say the masked tokens of batches that are made elsewhere."""

    implementation: ClassVar[str] = "tests.pretrain.engine.encoder_objective:MadeUpMaskedObjective"

    name: str = "tests.pretrain.engine.encoder_objective:MadeUpMaskedConfig"
    """This class."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """As many tokens as the model reads; the batches of the cases come from elsewhere."""
        return SampleCutting(TOKEN_STREAM, model.seq_length, marks_documents=documents_apart)


class MadeUpMaskedObjective:
    """Losses `mlm` and, where the model has a head for pairs, `pair`."""

    def __init__(self, config: ObjectiveConfig, context: ObjectiveContext) -> None:
        names = ("mlm", "pair") if context.model.has_pair_head else ("mlm",)
        self.coefficients: Mapping[str, float] = dict.fromkeys(names, 1.0)
        self.evaluation_names = tuple(f"{name} {what}" for name in names for what in ("nats", "weight"))

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """Batches are made elsewhere."""
        raise NotImplementedError

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Masked tokens; pairs."""
        weights = {"mlm": batch.loss_mask_BS.sum()}
        if "pair" in self.coefficients:
            weights["pair"] = torch.tensor(float(len(batch.tokens_BS)), device=batch.tokens_BS.device)
        return weights

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all of them."""
        losses = {"mlm": (output.nll(batch.labels_BS) * batch.loss_mask_BS).sum()}
        if "pair" in self.coefficients:
            labels_B = batch.extras["pair_labels_B"]
            losses["pair"] = torch.nn.functional.cross_entropy(output.heads["pair"].float(), labels_B, reduction="sum")
        return losses

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats and weight of each loss."""
        losses, weights = self.losses(output, batch), self.weights(batch)
        return {f"{name} nats": losses[name] for name in losses} | {f"{name} weight": weights[name] for name in losses}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """The sum of the mean losses."""
        return {"loss": sum(sums[f"{name} nats"] / sums[f"{name} weight"] for name in self.coefficients)}
