"""Layouts in which the objectives of GPT beside the causal one, and the options of losses, make what is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pretrain.config.kinds import OBJECTIVES
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from tests.pretrain.engine.layout_cases import VOCAB, Case, objective_of
from tests.pretrain.engine.objective_cases import FIRST_TEXT_ID, ObjectiveCase

# A vocabulary whose end is padding, on the second of two tensor ranks.
_PADDED: dict[str, Any] = {"vocab_multiple": 192}
_BOTH: dict[str, Any] = {"z_loss": 0.01, "label_smoothing": 0.1}


@dataclass(frozen=True)
class GPTObjectiveCase(Case):
    """A layout of a GPT that is trained on an objective of ours: `objective` is its section."""

    objective: dict[str, Any] = field(default_factory=dict)

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        section = OBJECTIVES.declaration(self.objective["name"]).model_validate(self.objective)
        assert isinstance(section, ObjectiveConfig)
        return {"objective": section}

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class; sample numbers go on from step to step, as in a run."""
        config, count, size = self.config(), self.global_batch_size, self.micro_batch_size
        cutting = config.objective.sampling(config.model, documents_apart=False)
        rng = np.random.default_rng(step)
        width = cutting.stride_tokens + cutting.overlap_tokens
        samples = Samples(
            tokens=rng.integers(FIRST_TEXT_ID, VOCAB, (count, width)),
            num_tokens=np.full(count, width),
            numbers=np.arange(step * count, (step + 1) * count),
            document_starts=rng.random((count, width)) < 0.1 if cutting.marks_documents else None,
            batch_start=step * count,
        )
        objective = objective_of(config)
        return [
            objective.batch(samples.rows(number * size, (number + 1) * size, step * count), number)
            for number in range(data_rank, count // size, data_size)
        ]


def _case(
    name: str,
    ranks: int,
    objective: dict[str, Any],
    *,
    family: str = "llama",
    model: dict[str, Any] | None = None,
    precision: str = "fp32",
    **parallel: Any,
) -> Case:
    parallel |= {"zero3_persistent_elements": 0}
    return GPTObjectiveCase(
        name, ranks, parallel, model=model or {}, family=family, precision=precision, objective=objective
    )


_PREFIX: dict[str, Any] = {"name": "prefix"}
_SP: dict[str, Any] = {"tensor_size": 2, "sequence_parallel": True}
_MIXTURE: dict[str, Any] = {
    "name": "mixture",
    "parts": {
        "causal": {"weight": 2.0, "objective": {"name": "causal"}},
        "fim": {"objective": {"name": "fill_in_middle", "z_loss": 0.01}},
        "prefix": {"objective": {"name": "prefix"}},
    },
}
# At the usual 0.02 attention is nearly uniform at the start, and hardly shows what it sees.
_SHARP: dict[str, Any] = {"model": {"init_std": 0.1}}

GPT_OBJECTIVE_CASES: tuple[Case, ...] = (
    _case("prefix, zero 1, data 2", 2, _PREFIX, zero_stage=1, **_SHARP),
    _case("prefix, zero 3, tensor 2, sequence", 2, _PREFIX, zero_stage=3, **_SP, **_SHARP),
    _case("prefix, zero 2, pipeline 2", 2, _PREFIX, zero_stage=2, pipeline_size=2, **_SHARP),
    _case("prefix, zero 3, pipeline 4, gpt2", 4, _PREFIX, zero_stage=3, pipeline_size=4, family="gpt2", **_SHARP),
    _case(
        "prefix, zero 2, tensor 2, sequence, pipeline 2, data 2",
        8,
        _PREFIX,
        zero_stage=2,
        pipeline_size=2,
        **_SP,
        **_SHARP,
    ),
    _case("prefix, zero 3, data 2, recompute full", 2, _PREFIX, zero_stage=3, recompute="full", **_SHARP),
    _case(
        "prefix, zero 1, pipeline 2, recompute selective",
        2,
        _PREFIX,
        zero_stage=1,
        pipeline_size=2,
        recompute="selective",
        **_SHARP,
    ),
    _case("prefix, zero 2, data 2, bf16", 2, _PREFIX, zero_stage=2, precision="bf16"),
    _case("fill_in_middle, zero 2, tensor 2, sequence, data 2", 4, {"name": "fill_in_middle"}, zero_stage=2, **_SP),
    _case("fill_in_middle, zero 3, pipeline 2", 2, {"name": "fill_in_middle"}, zero_stage=3, pipeline_size=2),
    _case(
        "causal, z and smoothing, zero 1, tensor 2",
        2,
        {"name": "causal", **_BOTH},
        model=_PADDED,
        zero_stage=1,
        tensor_size=2,
    ),
    _case(
        "fill_in_middle, z and smoothing, zero 3, tensor 2, sequence, pipeline 2",
        4,
        {"name": "fill_in_middle", **_BOTH},
        model=_PADDED | {"tie_embeddings": False},
        zero_stage=3,
        pipeline_size=2,
        **_SP,
    ),
    _case("prefix, z and smoothing, zero 2, data 2", 2, _PREFIX | _BOTH, model=_PADDED, zero_stage=2),
    _case(
        "causal, z and smoothing, zero 1, tensor 2, bf16",
        2,
        {"name": "causal", **_BOTH},
        zero_stage=1,
        tensor_size=2,
        precision="bf16",
    ),
    _case("mixture, zero 2, tensor 2, sequence, data 2", 4, _MIXTURE, zero_stage=2, **_SP),
    _case("mixture, zero 3, pipeline 2", 2, _MIXTURE, zero_stage=3, pipeline_size=2),
    ObjectiveCase(
        "bert, masked_pairs, z and smoothing, zero 1, tensor 2",
        2,
        {"zero_stage": 1, "tensor_size": 2},
        model=_PADDED,
        family="bert",
        objective={"name": "masked_pairs", **_BOTH},
    ),
)
