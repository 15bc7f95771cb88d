"""Encoders train in every layout as in a single process: each named loss, gradient norms, parameter norm."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.encoder_cases import ENCODER_CASES
from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.objective_cases import OBJECTIVE_CASES

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table bert roberta modern`.
FAST = ("bert, zero 1, tensor 2, sequence",)
SLOW = (
    "modern, zero 3, tensor 2, sequence",
    "bert, zero 3, pipeline 4",
    "bert, zero 2, tensor 2, sequence, pipeline 2, hidden dropout",
    "bert, zero 1, data 2, dropout, recompute full",
    "bert, zero 2, data 2, bf16",
    "bert_pre, zero 2, pipeline 2",
    "roberta, zero 2, tensor 2, sequence",
    "modern, zero 2, pipeline 2",
    "bert, masked_pairs, zero 3, tensor 2, sequence, pipeline 2",
    "modern, masked, length schedule, zero 2, tensor 2, sequence, data 2",
)
_BY_NAME = {case.name: case for case in ENCODER_CASES + OBJECTIVE_CASES}


@pytest.mark.parametrize("name", FAST)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_layouts_equal_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.parametrize("family", ["bert", "bert_pre", "modern"])
def test_every_mechanism_is_in_the_table(family: str) -> None:
    cases = [case for case in ENCODER_CASES if case.family == family]
    assert len({case.name for case in cases}) == len(cases)
    for key, values in {
        "zero_stage": {0, 1, 2, 3},
        "tensor_size": {1, 2},
        "pipeline_size": {1, 2, 4},
        "recompute": {None, "full", "selective"},
        "sequence_parallel": {None, True},
    }.items():
        assert {case.parallel.get(key) for case in cases} == values
    assert {case.precision for case in cases} == {"fp32", "bf16"}
    assert any(case.model.get("hidden_dropout") for case in cases)


def test_the_objectives_make_batches_of_two_lengths_and_of_pairs_with_and_without_labels() -> None:
    scheduled, pairs = (_BY_NAME[name] for name in SLOW[-1:-3:-1])
    shapes = [{tuple(b.tokens_BS.shape) for b in scheduled.micro_batches(step, 0, 1)} for step in range(4)]
    assert shapes == [{(4, 16)}, {(4, 16)}, {(2, 32)}, {(2, 32)}]
    labels = [b.extras["pair_labels_B"].tolist() for b in pairs.micro_batches(0, 0, 1)]
    assert {label for row in labels for label in row} == {-1, 0, 1}
