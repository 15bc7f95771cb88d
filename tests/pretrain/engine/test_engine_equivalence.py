"""Every layout trains as the single process does: losses, gradient norms, validation loss, parameter norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.layout_cases import CASES, Case, largest_differences

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table`.
FAST = (
    "zero 3, data 2",
    "zero 2, pipeline 2, untied",
)
SLOW = (
    "zero 2, tensor 2, sequence, data 2, gpt2",
    "zero 3, tensor 2, sequence, gpt2 untied",
    "zero 3, tensor 2, pipeline 2, small weights whole",
    "zero 1, pipeline 2, data 2",
    "zero 3, pipeline 4, 2 micro-batches < stages",
    "zero 1, pipeline 4, 16 micro-batches > stages",
    "zero 0, tensor 2, pipeline 2, data 2",
    "zero 3, tensor 2, sequence, pipeline 2, data 2",
    "zero 3, data 2, recompute full",
    "zero 3, pipeline 2, dropout, recompute selective",
    "zero 2, tensor 2, pipeline 2, hidden dropout",
    "zero 1, tensor 2, sequence, hidden dropout",
    "zero 1, data 2, offload",
    "zero 1, pipeline 2, documents apart, gpt2",
    "zero 2, data 4, uneven label masks",
    "zero 1, data 2, bf16",
)
_BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", FAST)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_layouts_equal_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.parametrize("cases", [CASES, [_BY_NAME[name] for name in FAST + SLOW]], ids=["table", "tests"])
def test_every_mechanism_is_covered(cases: Sequence[Case]) -> None:
    for key, values in {
        "zero_stage": {0, 1, 2, 3},
        "tensor_size": {1, 2},
        "pipeline_size": {1, 2, 4},
        "recompute": {None, "full", "selective"},
        "sequence_parallel": {None, True},
        "offload_optimizer": {None, True},
    }.items():
        assert {case.parallel.get(key) for case in cases} == values
    assert {case.precision for case in cases} == {"fp32", "bf16"}
    assert {case.micro_batch_size for case in cases} >= {1, 8}
    assert len({case.family for case in cases}) == 2
    for changed in ("hidden_dropout", "attention_dropout", "tie_embeddings"):
        assert any(changed in case.model for case in cases)
    assert any(case.resets_attention for case in cases) and any(case.pads_labels for case in cases)


def test_differences_are_the_largest_of_all_steps_and_what_is_not_finite_is_no_agreement() -> None:
    ones = [(1.0, 1.0), (1.0, 1.0)]
    assert largest_differences([(1.0, 1.5), (0.75, 1.0)], ones) == (0.25, 0.5)
    for wrong in (math.nan, math.inf):
        for place in range(4):
            numbers = [1.0] * 4
            numbers[place] = wrong
            trajectory = [(numbers[0], numbers[1]), (numbers[2], numbers[3])]
            for found, reference in ((trajectory, ones), (ones, trajectory)):
                with pytest.raises(AssertionError, match="not finite"):
                    largest_differences(found, reference)


def test_clipping_is_active_in_every_case(references: References) -> None:
    case = CASES[0]
    norms = [norm for _, norm in references.of(case)[:-1]]
    assert min(norms) > case.config().optimizer.clip_grad_norm


def test_enough_layouts_are_covered() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 24
    assert {case.parallel["zero_stage"] for case in CASES} == {0, 1, 2, 3}
