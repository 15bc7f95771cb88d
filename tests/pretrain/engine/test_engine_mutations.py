"""The equivalence suite notices when any of the engine's silent facts is broken."""

from __future__ import annotations

import pytest

from tests.distributed import RankFailure, run_ranks
from tests.pretrain.engine.equivalence_table import References, limits
from tests.pretrain.engine.layout_cases import PRELOAD, largest_differences, train
from tests.pretrain.engine.mutations import CONTROL, MUTATIONS

FAST = {"sequence-parallel sums left out", "loss reported in place"}


def is_noticed(name: str, references: References) -> bool:
    """Whether the layout's run fails, hangs or leaves the reference's trajectory once the engine is broken."""
    mutation = CONTROL if name == "control" else MUTATIONS[name]
    case = mutation.case
    expected = references.of(case)
    try:
        found = run_ranks(train, case.ranks, case, name, process_group=False, preload=PRELOAD, timeout_s=30)
    except RankFailure:
        return True
    loss, norm = largest_differences(found[0], expected)
    return not (loss < limits(case)[0] and norm < limits(case)[1])


@pytest.fixture(scope="module")
def references() -> References:
    return References()


@pytest.mark.parametrize("name", sorted(FAST))
def test_broken_engine_is_noticed(name: str, references: References) -> None:
    assert is_noticed(name, references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - FAST))
def test_every_broken_engine_is_noticed(name: str, references: References) -> None:
    assert is_noticed(name, references)


@pytest.mark.slow
def test_harmless_change_is_not_noticed(references: References) -> None:
    assert not is_noticed("control", references)


def test_each_fact_has_a_mutation() -> None:
    assert {mutation.item for mutation in MUTATIONS.values()} == {1, 2, 3, 4, 5, 6, 7, 11}
