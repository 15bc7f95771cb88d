"""A teacher-forced objective: for made-up batches of two texts, and for text that a decoder goes on with.

Shape letters: B samples, S tokens that the encoder reads, T that the decoder reads.
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
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.objectives.objective import ObjectiveContext

if TYPE_CHECKING:
    from pretrain.models.family import Output


class MadeUpTargetsConfig(ObjectiveConfig):
    """Say the targets; of real text, the tokens that follow on what the encoder reads."""

    implementation: ClassVar[str] = "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsObjective"

    name: str = "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsConfig"
    """This class."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """See the base class."""
        return SampleCutting(TOKEN_STREAM, model.seq_length + _target_length(model))

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        return [] if model.is_encoder_decoder else [f"model.name={model.name} has no decoder"]


def _target_length(model: ModelConfig) -> int:
    return model.target_length if isinstance(model, EncoderDecoderConfig) else 0


class MadeUpTargetsObjective:
    """One loss, that of the targets which count."""

    coefficients: Mapping[str, float] = {"targets": 1.0}
    evaluation_names: tuple[str, ...] = ("nats", "tokens")

    def __init__(self, config: ObjectiveConfig, context: ObjectiveContext) -> None:
        self.source, self.target = context.model.seq_length, _target_length(context.model)

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        tokens, length = torch.from_numpy(samples.tokens.copy()), torch.from_numpy(samples.num_tokens)[:, None]
        source_BS, labels_BT = tokens.split((self.source, self.target), 1)
        places_BS, places_BT = (torch.arange(n).repeat(len(tokens), 1) for n in (self.source, self.target))
        starts = torch.zeros(len(tokens), 1, dtype=torch.long)
        return MicroBatch(
            tokens_BS=source_BS.contiguous(),
            labels_BS=labels_BT.contiguous(),
            loss_mask_BS=(places_BT + self.source < length).float(),
            position_ids_BS=places_BS,
            segment_ids_BS=-(places_BS >= length).long(),
            number=number,
            extras={
                "decoder_tokens_BT": torch.cat([starts, labels_BT[:, :-1]], 1),
                "decoder_position_ids_BT": places_BT,
            },
        )

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
