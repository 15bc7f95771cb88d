"""The equivalence suite notices when an encoder is broken."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.broken_engine import Differs, check, run_broken
from tests.pretrain.engine.encoder_mutations import ENCODER_MUTATIONS
from tests.pretrain.engine.equivalence_table import References, limits

FAST = "the head's sequence-parallel sums left out"


@pytest.fixture(scope="module")
def references() -> References:
    return References()


@pytest.mark.slow
def test_broken_encoder_is_noticed(references: References) -> None:
    check(ENCODER_MUTATIONS[FAST], run_broken(ENCODER_MUTATIONS[FAST], references))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ENCODER_MUTATIONS) - {FAST}))
def test_every_broken_encoder_is_noticed(name: str, references: References) -> None:
    check(ENCODER_MUTATIONS[name], run_broken(ENCODER_MUTATIONS[name], references))


def test_expected_differences_are_far_above_the_tolerance() -> None:
    for mutation in ENCODER_MUTATIONS.values():
        assert isinstance(mutation.outcome, Differs)
        least = (mutation.outcome.loss, mutation.outcome.norm)
        stated = [(x, limit) for x, limit in zip(least, limits(mutation.case), strict=True) if x is not None]
        assert stated
        assert all(x >= 10 * limit for x, limit in stated), mutation
