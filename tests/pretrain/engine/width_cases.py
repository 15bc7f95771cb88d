"""Layouts in which models that are wider than their base must train as one process does."""

from __future__ import annotations

from typing import Any

from tests.pretrain.engine.encoder_cases import EncoderCase
from tests.pretrain.engine.layout_cases import Case
from tests.pretrain.engine.optimizer_cases import OptimizerCase

# Four times as wide, of heads twice as wide. At the usual 0.02 attention hardly shows what it sees.
BASE: dict[str, Any] = {"base_hidden_size": 16, "base_head_size": 8, "init_std": 0.1}
_UNTIED: dict[str, Any] = {"tie_embeddings": False, "output_bias": True, "qk_norm": "head"}


def _layout(zero: int, tensor: int = 1, pipeline: int = 1, *, sequence: bool = False) -> dict[str, Any]:
    parallel = {"zero_stage": zero, "tensor_size": tensor, "pipeline_size": pipeline, "sequence_parallel": sequence}
    return parallel | {"zero3_persistent_elements": 0}


WIDTH_CASES: tuple[Case, ...] = (
    Case("width, zero 1, tensor 2", 2, _layout(1, 2), BASE),
    # At which attention is far from even, so that its scale shows.
    Case("width, sharp, zero 1, tensor 2", 2, _layout(1, 2), BASE | {"init_std": 0.3}),
    Case("width, zero 2, pipeline 2", 2, _layout(2, 1, 2), BASE),
    Case("width, untied, zero 3, tensor 2, sequence", 2, _layout(3, 2, sequence=True), BASE | _UNTIED),
    Case(
        "width, zero 3, tensor 2, sequence, pipeline 2, data 2, gpt2", 8, _layout(3, 2, 2, sequence=True), BASE, "gpt2"
    ),
    OptimizerCase("width, sgd, zero 0, data 2", 2, _layout(0), BASE, optimizer="sgd"),
    OptimizerCase("width, sgd, zero 2, tensor 2, pipeline 2", 4, _layout(2, 2, 2), BASE | _UNTIED, optimizer="sgd"),
    OptimizerCase("width, muon, zero 2, tensor 2", 2, _layout(2, 2), BASE, optimizer="muon"),
    OptimizerCase("width, adafactor, zero 3, data 2", 2, _layout(3), BASE, optimizer="adafactor"),
    EncoderCase("width, bert, zero 2, tensor 2, sequence", 2, _layout(2, 2, sequence=True), BASE, "bert"),
    EncoderCase("width, modern, zero 1, pipeline 2", 2, _layout(1, 1, 2), BASE, "modern"),
)
"""What `python -m tests.pretrain.engine.equivalence_table width` shows."""
