"""Decoders of every choice train in other layouts as in a single process, and the suite notices when one is broken."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.decoder_cases import DECODER_CASES, DECODERS
from tests.pretrain.engine.decoder_mutations import DECODER_MUTATIONS
from tests.pretrain.engine.equivalence_table import References, check

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table "qk norm" "norms after"` and so on.
SLOW = (
    "window, zero 3, tensor 2, pipeline 2",
    "qk norm, zero 1, tensor 2, sequence",
    "parallel, zero 1, pipeline 2, recompute selective",
    "one norm, zero 2, pipeline 2",
    "local and global, zero 2, pipeline 2",
    "norms after, zero 1, tensor 2, sequence",
)
SLOW_MUTATIONS = (
    "window one token too wide",
    "sums over the heads left out",
    "attention and MLP one after the other",
    "layers counted from each stage's first",
    "the sum's gradient left to each rank",
)
_BY_NAME = {case.name: case for case in DECODER_CASES}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_MUTATIONS)
def test_broken_decoder_is_noticed(name: str, references: References) -> None:
    check_is_noticed(DECODER_MUTATIONS[name], references)


def test_every_decoder_has_a_layout_in_the_tests_and_a_mutation() -> None:
    assert {name.partition(",")[0] for name in SLOW} == set(DECODERS)
    assert {mutation.layout.partition(",")[0] for mutation in DECODER_MUTATIONS.values()} == set(DECODERS)
    for case in DECODER_CASES:
        case.model_config()


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(DECODER_MUTATIONS.values())
