"""Validation and test: the loss on held-out samples, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pretrain.config import RunConfig
from pretrain.data.loader import BatchLoader
from pretrain.data.run_data import RunData
from pretrain.data.stream import SampleStream
from pretrain.engine.engine import TrainEngine
from pretrain.engine.topology import Topology
from pretrain.monitor.evaluation import eval_record
from pretrain.monitor.records import EvalRecord
from pretrain.objectives.causal import CausalObjective


class Evaluator:
    """Evaluates an engine on named sets."""

    def __init__(self, config: RunConfig, data: RunData, engine: TrainEngine, topology: Topology) -> None:
        self._config = config
        self._engine = engine
        self._topology = topology
        self._token_bytes = None if data.token_bytes is None else torch.from_numpy(data.token_bytes)

    def evaluate(self, streams: Mapping[str, SampleStream], step: int) -> list[EvalRecord]:
        """One record per set, the same on every rank."""
        return [self._evaluate_one(name, stream, step) for name, stream in streams.items()]

    def _evaluate_one(self, name: str, stream: SampleStream, step: int) -> EvalRecord:
        config, batch_size = self._config, self._config.training.global_batch_size
        loader = BatchLoader(
            stream,
            CausalObjective(reset_at_documents=config.data.reset_attention_at_documents),
            config.training.micro_batch_size,
            self._topology.data_rank,
            self._topology.layout.data,
        )
        loss_nats = tokens = label_bytes = 0.0
        for number in range(loader.num_batches(batch_size, config.evaluation.batches)):
            sums = self._engine.evaluate(loader.global_batch(number * batch_size, batch_size), self._token_bytes)
            loss_nats += sums.loss_nats
            tokens += sums.tokens
            label_bytes += sums.label_bytes
        return eval_record(
            step,
            name,
            loss_sum_nats=loss_nats,
            label_tokens=tokens,
            label_bytes=None if self._token_bytes is None else label_bytes,
        )
