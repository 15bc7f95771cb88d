"""A teacher-forced objective for made-up batches of two texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch

from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.objective import ObjectiveContext

if TYPE_CHECKING:
    from pretrain.models.family import Output


class MadeUpTargetsConfig(ObjectiveConfig):
    """Say the targets of batches that are made elsewhere."""

    implementation: ClassVar[str] = "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsObjective"

    name: str = "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsConfig"
    """This class."""

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        return [] if model.is_encoder_decoder else [f"model.name={model.name} has no decoder"]


class MadeUpTargetsObjective:
    """One loss, that of the targets which count."""

    coefficients: Mapping[str, float] = {"targets": 1.0}
    evaluation_names: tuple[str, ...] = ("nats", "tokens")

    def __init__(self, config: ObjectiveConfig, context: ObjectiveContext) -> None:
        pass

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """Batches are made elsewhere."""
        raise NotImplementedError

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How many targets count."""
        return {"targets": batch.loss_mask_BS.sum()}

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all of them."""
        return {"targets": (output.nll(batch.labels_BS) * batch.loss_mask_BS).sum()}

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats and targets."""
        return {"nats": self.losses(output, batch)["targets"], "tokens": batch.loss_mask_BS.sum()}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """The mean loss."""
        return {"loss": sums["nats"] / sums["tokens"]}
