"""Every layout trains as the single process does: losses, gradient norms, validation loss, parameter norm."""

from __future__ import annotations

import math

import pytest

from tests.pretrain.engine.equivalence_table import References, differences, limits
from tests.pretrain.engine.layout_cases import CASES, Case, largest_differences

FAST = {
    "zero 3, data 2",
    "zero 2, pipeline 2, untied",
}


@pytest.fixture(scope="module")
def references() -> References:
    return References()


@pytest.mark.parametrize("case", [c for c in CASES if c.name in FAST], ids=lambda c: c.name)
def test_layout_equals_single_process(case: Case, references: References) -> None:
    check(case, references)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in FAST], ids=lambda c: c.name)
def test_every_layout_equals_single_process(case: Case, references: References) -> None:
    check(case, references)


def check(case: Case, references: References) -> None:
    loss, norm = differences(case, references)
    loss_limit, norm_limit = limits(case)
    assert loss < loss_limit
    assert norm < norm_limit


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
