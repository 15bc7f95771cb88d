"""Validation and test: the objective's figures on held-out samples, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pretrain.config import EvaluationConfig, TrainingConfig
from pretrain.data.loader import BatchLoader
from pretrain.data.stream import SampleStream
from pretrain.engine.engine import TrainEngine
from pretrain.engine.topology import Topology
from pretrain.monitor.records import EvalRecord
from pretrain.objectives.unigram_figure import with_unigram_loss

if TYPE_CHECKING:
    import numpy as np

    from pretrain.objectives.objective import Objective


class Evaluator:
    """Evaluates an engine on named sets.

    Args:
        evaluation: how many global batches of a set are read.
        training: the size of a global batch, and of a micro-batch.
        objective: made for evaluations.
        unigram_nats: what each label costs a unigram model; see `with_unigram_loss`.
        engine: runs the model.
        topology: where this rank stands.
    """

    def __init__(
        self,
        evaluation: EvaluationConfig,
        training: TrainingConfig,
        objective: Objective,
        unigram_nats: np.ndarray | None,
        engine: TrainEngine,
        topology: Topology,
    ) -> None:
        self._batches = evaluation.batches
        self._training = training
        self._objective = with_unigram_loss(objective, unigram_nats)
        self._engine = engine
        self._topology = topology

    def evaluate(self, streams: Mapping[str, SampleStream], step: int) -> list[EvalRecord]:
        """One record per set, the same on every rank."""
        return [self._evaluate_one(name, stream, step) for name, stream in streams.items()]

    def _evaluate_one(self, name: str, stream: SampleStream, step: int) -> EvalRecord:
        batch_size = self._training.global_batch_size
        loader = BatchLoader(
            stream,
            self._objective,
            self._training.micro_batch_size,
            self._topology.data_rank,
            self._topology.layout.data,
        )
        totals = dict.fromkeys(self._objective.evaluation_names, 0.0)
        for number in range(loader.num_batches(batch_size, self._batches)):
            sums = self._engine.evaluate(loader.global_batch(number * batch_size, batch_size), self._objective)
            totals = {key: total + sums[key] for key, total in totals.items()}
        figures = self._objective.figures(totals)
        loss = figures.pop("loss")
        assert loss is not None
        return EvalRecord(step=step, name=name, loss=loss, figures=figures)
