"""Bad input is left out and counted, or ends in one message; nothing hangs and nothing half-made is taken for whole."""

from __future__ import annotations

import os

import pytest

from tests.data_prep.damaged_input import CASES, Case, Workplace, problems


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("bad-inputs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "full disk" or os.geteuid() == 0], ids=lambda case: case.name
)
def test_bad_input(workplace: Workplace, case: Case) -> None:
    seen = workplace.see(case)
    assert problems(case, seen) == [], seen.message
