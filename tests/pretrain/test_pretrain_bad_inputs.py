"""Mistakes end in one message and a status, not in a traceback."""

from __future__ import annotations

import os

import pytest

from tests.pretrain.bad_inputs import BROKEN_INPUTS, WRONG_CONFIGS, BadInput, Workplace, problems

CASES = [case for case in (*WRONG_CONFIGS, *BROKEN_INPUTS) if case.name != "full disk" or os.geteuid() == 0]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("bad-inputs"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told_in_one_message(workplace: Workplace, case: BadInput) -> None:
    seen = workplace.see(case)
    assert problems(case, seen) == [], seen.message


def test_enough_mistakes_are_made() -> None:
    assert min(len(WRONG_CONFIGS), len(BROKEN_INPUTS)) >= 10
