"""Each optimizer trains in every layout as in a single process, and the suite notices when its sharding is broken."""

from __future__ import annotations

import pytest

from pretrain.config.kinds import OPTIMIZERS
from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.optimizer_cases import OPTIMIZER_CASES
from tests.pretrain.engine.optimizer_mutations import OPTIMIZER_MUTATIONS

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table sgd adagrad lion lamb adafactor muon`.
SLOW = (
    "sgd, zero 2, pipeline 2, data 2",
    "adagrad, zero 3, data 2",
    "lion, zero 1, data 2",
    "lamb, zero 3, tensor 2, sequence, data 2",
    "adafactor, zero 1, tensor 2, data 2, gpt2",
    "adafactor with momentum, zero 3, tensor 2, sequence, data 2",
    "muon, zero 3, tensor 2, sequence, data 2",
    "muon, zero 2, tensor 2, offload",
)
_BY_NAME = {case.name: case for case in OPTIMIZER_CASES}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIMIZER_MUTATIONS))
def test_every_broken_optimizer_is_noticed(name: str, references: References) -> None:
    check_is_noticed(OPTIMIZER_MUTATIONS[name], references)


def test_every_optimizer_is_in_the_table_under_every_stage_and_in_the_suite() -> None:
    for name in set(OPTIMIZERS.targets) - {"adamw"}:
        cases = [case for case in OPTIMIZER_CASES if case.optimizer == name]
        assert {case.parallel["zero_stage"] for case in cases} == {0, 1, 2, 3}
        assert {case.parallel["tensor_size"] for case in cases} == {1, 2}
        assert {case.parallel["pipeline_size"] for case in cases} == {1, 2}
        assert any(case.startswith(name) for case in SLOW)


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(OPTIMIZER_MUTATIONS.values())
