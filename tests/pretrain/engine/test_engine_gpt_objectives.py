"""The objectives of GPT, and the options of losses, train in every layout as in a single process."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.gpt_objective_cases import GPT_OBJECTIVE_CASES
from tests.pretrain.engine.gpt_objective_mutations import GPT_OBJECTIVE_MUTATIONS

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table prefix fill_in_middle smoothing`.
SLOW = (
    "prefix, zero 3, tensor 2, sequence",
    "prefix, zero 1, pipeline 2, recompute selective",
    "fill_in_middle, z and smoothing, zero 3, tensor 2, sequence, pipeline 2",
    "mixture, zero 2, tensor 2, sequence, data 2",
    "bert, masked_pairs, z and smoothing, zero 1, tensor 2",
)
_BY_NAME = {case.name: case for case in GPT_OBJECTIVE_CASES}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GPT_OBJECTIVE_MUTATIONS))
def test_every_broken_objective_is_noticed(name: str, references: References) -> None:
    check_is_noticed(GPT_OBJECTIVE_MUTATIONS[name], references)


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(GPT_OBJECTIVE_MUTATIONS.values())


def test_every_mechanism_is_in_the_table() -> None:
    assert len(_BY_NAME) == len(GPT_OBJECTIVE_CASES) and set(SLOW) <= set(_BY_NAME)
    prefix = [case for case in GPT_OBJECTIVE_CASES if case.name.startswith("prefix")]
    for key, values in {
        "zero_stage": {1, 2, 3},
        "tensor_size": {None, 2},
        "pipeline_size": {None, 2, 4},
        "recompute": {None, "full", "selective"},
        "sequence_parallel": {None, True},
    }.items():
        assert {case.parallel.get(key) for case in prefix} == values
