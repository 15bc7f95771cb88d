"""Models wider than their base train in other layouts as in a single process; the suite notices when one is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.distributed import run_ranks
from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.layout_cases import PRELOAD, Case
from tests.pretrain.engine.width_cases import WIDTH_CASES
from tests.pretrain.engine.width_mutations import WIDTH_MUTATIONS

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table width`.
SLOW = ("width, untied, zero 3, tensor 2, sequence", "width, bert, zero 2, tensor 2, sequence")
_BY_NAME = {case.name: case for case in WIDTH_CASES}


@pytest.mark.parametrize("name", ["width, zero 2, pipeline 2"])
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_layouts_equal_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WIDTH_MUTATIONS))
def test_broken_width_scaling_is_noticed(name: str, references: References) -> None:
    check_is_noticed(WIDTH_MUTATIONS[name], references)


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(WIDTH_MUTATIONS.values())


def rates(case: Case) -> set[tuple[float, float]]:
    """On each rank: learning rate and weight decay of each group in a step."""
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout
    from tests.pretrain.engine.layout_cases import objective_of

    config, launch = case.config(), discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    engine = TrainEngine(config, place, objective_of(config))
    batches = case.micro_batches(0, place.data_rank, place.layout.data)
    engine.train_batch(batches, step=0, learning_rate=0.25, weight_decay=0.5)
    return {(group["lr"], group["weight_decay"]) for group in engine.zero.param_groups}


@pytest.mark.slow
def test_a_step_has_the_rates_and_decays_of_each_group() -> None:
    case = replace(_BY_NAME["width, zero 1, tensor 2"], global_batch_size=2)
    found = run_ranks(rates, 1, case.reference(), process_group=False, preload=PRELOAD)[0]
    # Matrices of the layers, a quarter of the rate and four times the decay; the embedding; norms.
    assert found == {(0.0625, 2.0), (0.25, 0.5), (0.25, 0.0)}
