"""Layouts of instruction tuning whose samples are packed; in the single process each conversation stands alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pretrain.config import DataConfig, RunConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.objectives.instruct_config import InstructConfig
from tests.pretrain.engine.layout_cases import SEQ_LENGTH, VOCAB, Case, objective_of
from tests.pretrain.engine.objective_cases import FIRST_TEXT_ID

CONVERSATIONS = 16
"""In a global batch, whatever it is packed into."""


@dataclass(frozen=True)
class InstructCase(Case):
    """A layout that is trained on the same conversations, `per_sample` of them in each sample."""

    per_sample: int = 2
    global_batch_size: int = CONVERSATIONS // 2

    def config(self, parallel: dict[str, Any] | None = None) -> RunConfig:
        """See the base class."""
        data = DataConfig.model_validate({"train": ["unused"], "reset_attention_at_documents": True})
        # Made of a run that is checked already, with the objective that needs documents apart.
        return super().config(parallel).model_copy(update={"data": data, "objective": InstructConfig()})

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        return {}

    def reference(self) -> Case:
        """See the base class: there, conversations stand alone, one in each forward pass."""
        return replace(
            self,
            name="single process",
            ranks=1,
            parallel={"zero_stage": 0},
            per_sample=1,
            global_batch_size=CONVERSATIONS,
            micro_batch_size=1,
        )

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class."""
        samples, objective, size = self._samples(step), objective_of(self.config()), self.micro_batch_size
        return [
            objective.batch(samples.rows(number * size, (number + 1) * size), number)
            for number in range(data_rank, self.global_batch_size // size, data_size)
        ]

    def _samples(self, step: int) -> Samples:
        rng = np.random.default_rng(step)
        room = SEQ_LENGTH // 2
        lengths = rng.integers(4, room + 1, CONVERSATIONS)
        texts = [rng.integers(FIRST_TEXT_ID, VOCAB, length) for length in lengths]
        # Few answers in the first conversations and many in the last: of micro-batches, each has its own share.
        shares = np.linspace(0.1, 0.9, CONVERSATIONS)
        marks = [rng.random(length) < share for length, share in zip(lengths, shares)]
        marks[-1][-1] = True
        rows = self.global_batch_size
        shape = (rows, SEQ_LENGTH)
        samples = Samples(
            tokens=np.zeros(shape, dtype=np.int64),
            num_tokens=np.zeros(rows, dtype=np.int64),
            numbers=np.arange(step * rows, (step + 1) * rows),
            document_starts=np.zeros(shape, dtype=np.bool_),
            answers=np.zeros(shape, dtype=np.bool_),
        )
        assert samples.document_starts is not None and samples.answers is not None
        for number, (text, marked) in enumerate(zip(texts, marks, strict=True)):
            row = number // self.per_sample
            begin, end = int(samples.num_tokens[row]), int(samples.num_tokens[row]) + len(text)
            samples.tokens[row, begin:end], samples.answers[row, begin:end] = text, marked
            samples.document_starts[row, begin] = True
            samples.num_tokens[row] = end
        return samples


def _case(name: str, ranks: int, *, family: str = "llama", **parallel: Any) -> Case:
    # At the usual 0.02 attention is nearly uniform at the start, and hardly shows what it sees.
    parallel |= {"zero3_persistent_elements": 0}
    return InstructCase(f"instruct, {name}", ranks, parallel, model={"init_std": 0.1}, family=family)


INSTRUCT_CASES: tuple[Case, ...] = (
    _case("zero 1", 1, zero_stage=1),
    _case("zero 1, tensor 2", 2, zero_stage=1, tensor_size=2),
    _case("zero 1, pipeline 2", 2, zero_stage=1, pipeline_size=2),
    _case("zero 2, data 2, gpt2", 2, zero_stage=2, family="gpt2"),
    _case("zero 3, tensor 2, sequence, pipeline 2", 4, zero_stage=3, tensor_size=2, pipeline_size=2,
          sequence_parallel=True),
)  # fmt: skip
