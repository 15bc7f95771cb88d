"""Instruction tuning has one loss whatever the packing, the accumulation and the layout."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.broken_engine import check, run_broken
from tests.pretrain.engine.equivalence_table import References, differences, limits
from tests.pretrain.engine.instruct_cases import INSTRUCT_CASES
from tests.pretrain.engine.instruct_mutations import INSTRUCT_MUTATIONS

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table instruct`.
SLOW = ("instruct, zero 1, tensor 2", "instruct, zero 1, pipeline 2")
LOSS_LIMIT = 1e-5
_BY_NAME = {case.name: case for case in INSTRUCT_CASES}


@pytest.fixture(scope="module")
def references() -> References:
    return References()


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_packed_in_a_layout_equals_alone_in_one_process(name: str, references: References) -> None:
    case = _BY_NAME[name]
    loss, norm = differences(case, references)
    assert loss < LOSS_LIMIT and norm < limits(case)[1], (loss, norm)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(INSTRUCT_MUTATIONS))
def test_every_broken_objective_is_noticed(name: str, references: References) -> None:
    check(INSTRUCT_MUTATIONS[name], run_broken(INSTRUCT_MUTATIONS[name], references))
