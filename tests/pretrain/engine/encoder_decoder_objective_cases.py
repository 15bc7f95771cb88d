"""Layouts in which the objectives of encoder-decoders themselves make the batches, from made-up samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pretrain.config.kinds import OBJECTIVES
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from tests.pretrain.engine.encoder_decoder_cases import EncoderDecoderCase
from tests.pretrain.engine.layout_cases import VOCAB, Case, objective_of
from tests.pretrain.engine.objective_cases import FIRST_TEXT_ID


@dataclass(frozen=True)
class DenoisingCase(EncoderDecoderCase):
    """A layout of an encoder-decoder that is trained on an objective of ours: `objective` is its section."""

    objective: dict[str, Any] = field(default_factory=dict)

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        section = OBJECTIVES.declaration(self.objective["name"]).model_validate(self.objective)
        assert isinstance(section, ObjectiveConfig)
        return {"objective": section}

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class; sample numbers go on from step to step, as in a run."""
        config, count, size = self.config(), self.global_batch_size, self.micro_batch_size
        width = config.objective.sampling(config.model, documents_apart=False).stride_tokens
        tokens = np.random.default_rng(step).integers(FIRST_TEXT_ID, VOCAB, (count, width))
        numbers = np.arange(step * count, (step + 1) * count)
        samples = Samples(tokens, np.full(count, width), numbers, batch_start=step * count)
        objective = objective_of(config)
        return [
            objective.batch(samples.rows(number * size, (number + 1) * size, step * count), number)
            for number in range(data_rank, count // size, data_size)
        ]


def _case(family: str, name: str, ranks: int, objective: dict[str, Any], **parallel: Any) -> Case:
    # A vocabulary whose end is padding, on the second of two tensor ranks; the targets' length is the objective's.
    model = {"vocab_multiple": 192, "decoder_seq_length": 32}
    parallel |= {"zero3_persistent_elements": 0}
    return DenoisingCase(f"{family}, {name}", ranks, parallel, model, family, objective=objective)


_BOTH: dict[str, Any] = {"z_loss": 0.01, "label_smoothing": 0.1}
_INFILLING: dict[str, Any] = {"name": "text_infilling", "selection": "token", "permute_sentences": False}
_MIXTURE: dict[str, Any] = {
    "name": "mixture",
    "parts": {
        "spans": {"weight": 2.0, "objective": {"name": "span_corruption", **_BOTH}},
        "infilling": {"objective": _INFILLING},
        "fragments": {"objective": {"name": "masked_sequence"}},
        "denoisers": {"objective": {"name": "ul2", "mode_tokens": False}},
    },
}

DENOISING_CASES: tuple[Case, ...] = (
    _case(
        "t5_1.1",
        "span_corruption, z and smoothing, zero 1, tensor 2",
        2,
        {"name": "span_corruption", **_BOTH},
        zero_stage=1,
        tensor_size=2,
    ),
    _case("bart", "text_infilling, z and smoothing, zero 2, data 2", 2, _INFILLING | _BOTH, zero_stage=2),
    _case(
        "t5_1.1",
        "mixture, zero 2, tensor 2, sequence, data 2",
        4,
        _MIXTURE,
        zero_stage=2,
        tensor_size=2,
        sequence_parallel=True,
    ),
    _case("bart", "mixture, zero 3, data 2", 2, _MIXTURE, zero_stage=3),
)
