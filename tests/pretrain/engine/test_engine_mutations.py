"""The equivalence suite notices when any of the engine's silent facts is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.distributed import RankFailure
from tests.pretrain.engine import mutation_table
from tests.pretrain.engine.broken_engine import (
    Differs,
    Hangs,
    Mutation,
    Outcome,
    Raises,
    Run,
    Saboteur,
    check,
    check_far_above_limits,
    check_is_noticed,
    run_broken,
)
from tests.pretrain.engine.equivalence_table import References
from tests.pretrain.engine.layout_cases import Case
from tests.pretrain.engine.mutations import CONTROL, MUTATIONS

FAST = {"loss reported in place"}
ANY_DIFFERENCE = Differs(norm=0.0)


@pytest.mark.parametrize("name", sorted(FAST))
def test_broken_engine_is_noticed(name: str, references: References) -> None:
    check_is_noticed(MUTATIONS[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - FAST))
def test_every_broken_engine_is_noticed(name: str, references: References) -> None:
    check_is_noticed(MUTATIONS[name], references)


@pytest.mark.slow
def test_harmless_change_is_not_noticed(references: References) -> None:
    check_is_noticed(CONTROL, references)


def test_each_fact_has_a_mutation() -> None:
    assert {mutation.item for mutation in MUTATIONS.values()} == {1, 2, 3, 4, 5, 6, 7, 11}


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(m for m in MUTATIONS.values() if isinstance(m.outcome, Differs))


def _not_there(case: Case, saboteur: Saboteur) -> None:
    raise ImportError("the mutation does not apply at all")


def _renamed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import pipeline

    saboteur.replace(pipeline, "name_of_another_release", lambda: None)


def _forgotten_in_a_rank(case: Case, saboteur: Saboteur) -> None:
    if not saboteur.prefix.endswith("rank0"):
        MUTATIONS["loss reported in place"].apply(case, saboteur)


def _never_called(case: Case, saboteur: Saboteur) -> None:
    MUTATIONS["tied sums left out"].apply(case, saboteur)


def _raises_something_else(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import engine

    def fail(*sums: object) -> None:
        raise ValueError("something else")

    saboteur.replace(engine, "trained_loss", fail)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "apply", "outcome", "complaint"),
    [
        ("zero 1", _not_there, ANY_DIFFERENCE, "not applied in ranks .0.(.|\n)*ImportError"),
        ("zero 1", _not_there, Raises("ImportError", "does not apply at all"), "not applied in ranks .0.:"),
        ("zero 1", _renamed, Raises("AttributeError", "name_of_another_release"), "not applied in ranks .0.:"),
        ("zero 1, data 2", _forgotten_in_a_rank, Differs(loss=0.0), "not applied in ranks .0.:"),
        ("zero 1", _never_called, ANY_DIFFERENCE, "no rank called .'sum_tied'.:"),
        ("zero 1", _raises_something_else, ANY_DIFFERENCE, "but the run failed(.|\n)*ValueError"),
        ("zero 1", _raises_something_else, Raises("ValueError", "another message"), "but the run failed"),
    ],
    ids=[
        "import error",
        "import error, expected by name",
        "renamed",
        "not in every rank",
        "never called",
        "error for a difference",
        "another error",
    ],
)
def test_mutation_that_shows_nothing_fails(
    layout: str, apply: Callable[[Case, Saboteur], None], outcome: Outcome, complaint: str, references: References
) -> None:
    mutation = Mutation(0, layout, apply, outcome)
    run = run_broken(mutation, references)
    with pytest.raises(AssertionError, match=complaint):
        check(mutation, run)


def test_run_that_is_only_slow_is_no_hang() -> None:
    mutation = replace(MUTATIONS["norm left to DeepSpeed"], layout="zero 1")
    assert isinstance(mutation.outcome, Hangs)
    file, function = mutation.outcome.waits_in
    waits, moves = (f'  File "/x/{file}", line {line} in {function}\n' for line in (1, 2))
    failure = RankFailure("ranks [0] did not end within 26.0 s", None, {})

    def run(stacks: list[str], timed_out: bool = True) -> Run:
        return Run(mutation.case, {0: ["step"]}, {0: ["step"]}, failure, None, timed_out, {0: stacks})

    check(mutation, run([moves, waits, waits]))
    for shown, complaint in [
        (run([]), "had not come to a stop"),
        (run([waits]), "had not come to a stop"),
        (run([moves, waits]), "had not come to a stop"),
        (run(["elsewhere", "elsewhere"]), "hung elsewhere"),
        (run([waits, waits], timed_out=False), "but the run failed"),
    ]:
        with pytest.raises(AssertionError, match=complaint):
            check(mutation, shown)


def test_the_table_of_mutations_holds_those_of_every_module() -> None:
    names = {path.stem.upper() for path in Path(__file__).parent.glob("*mutations.py")}
    names = {name for name in names if not name.startswith("TEST_")}
    held = {id(found) for found in mutation_table.ALL_MUTATIONS.values()}
    assert {id(getattr(mutation_table, name, None)) for name in names} == held
