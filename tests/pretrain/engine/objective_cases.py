"""Layouts in which the objectives of encoders themselves make the batches, from made-up samples with their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pretrain.config.kinds import OBJECTIVES
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.pair_cutting import NO_LABEL
from pretrain.data.samples import Samples
from tests.pretrain.engine.encoder_cases import EncoderCase
from tests.pretrain.engine.layout_cases import SEQ_LENGTH, VOCAB, Case, objective_of

FIRST_TEXT_ID = 10


@dataclass(frozen=True)
class ObjectiveCase(EncoderCase):
    """A layout of an encoder that is trained on an objective of ours: `objective` is its section."""

    objective: dict[str, Any] = field(default_factory=dict)

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        section = OBJECTIVES.declaration(self.objective["name"]).model_validate(self.objective)
        assert isinstance(section, ObjectiveConfig)
        return {"objective": section}

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class; sample numbers go on from step to step, as in a run."""
        config = self.config()
        samples = self._samples(step, config.objective.sampling(config.model, documents_apart=False).stride_tokens)
        objective, size = objective_of(config), self.micro_batch_size
        begin = step * self.global_batch_size
        return [
            objective.batch(samples.rows(number * size, (number + 1) * size, begin), number)
            for number in range(data_rank, self.global_batch_size // size, data_size)
        ]

    def _samples(self, step: int, room_tokens: int) -> Samples:
        rng = np.random.default_rng(step)
        count = self.global_batch_size
        tokens = rng.integers(FIRST_TEXT_ID, VOCAB, (count, room_tokens))
        numbers = np.arange(step * count, (step + 1) * count)
        if self.objective["name"] != "masked_pairs":
            return Samples(tokens, np.full(count, room_tokens), numbers, batch_start=step * count)
        first = rng.integers(4, room_tokens - 4, count)
        second = rng.integers(1, room_tokens - first + 1)
        label = rng.integers(NO_LABEL, 2, count)
        second[label == NO_LABEL] = 0
        tokens[np.arange(room_tokens) >= (first + second)[:, None]] = 0
        extras = {"first_tokens": first, "second_tokens": second, "pair_label": label}
        return Samples(tokens, first + second, numbers, extras=extras, batch_start=step * count)


def _case(family: str, name: str, ranks: int, objective: dict[str, Any], **parallel: Any) -> Case:
    parallel |= {"zero3_persistent_elements": 0}
    return ObjectiveCase(f"{family}, {name}", ranks, parallel, family=family, objective=objective)


_PAIRS = {"name": "masked_pairs"}
# Rows of 16 tokens in the first two steps, of 32 from the third on.
_SCHEDULE = {
    "name": "masked",
    "length_schedule": [{"from_sample": 0, "length": SEQ_LENGTH // 2}, {"from_sample": 32, "length": SEQ_LENGTH}],
    "mask_rate_schedule": [{"from_sample": 0, "rate": 0.3}, {"from_sample": 16, "rate": 0.15}],
}

OBJECTIVE_CASES: tuple[Case, ...] = (
    _case(
        "bert",
        "masked_pairs, zero 3, tensor 2, sequence, pipeline 2",
        4,
        _PAIRS,
        zero_stage=3,
        tensor_size=2,
        pipeline_size=2,
        sequence_parallel=True,
    ),
    _case("bert_pre", "masked_pairs, zero 1, data 2", 2, _PAIRS, zero_stage=1),
    _case(
        "modern",
        "masked, length schedule, zero 2, tensor 2, sequence, data 2",
        4,
        _SCHEDULE,
        zero_stage=2,
        tensor_size=2,
        sequence_parallel=True,
    ),
    _case("roberta", "masked, length schedule, zero 3, pipeline 2", 2, _SCHEDULE, zero_stage=3, pipeline_size=2),
)
