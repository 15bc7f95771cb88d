"""The equivalence suite notices when an encoder is broken."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.encoder_mutations import ENCODER_MUTATIONS
from tests.pretrain.engine.equivalence_table import References

FAST = "the head's sequence-parallel sums left out"


@pytest.mark.slow
def test_broken_encoder_is_noticed(references: References) -> None:
    check_is_noticed(ENCODER_MUTATIONS[FAST], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ENCODER_MUTATIONS) - {FAST}))
def test_every_broken_encoder_is_noticed(name: str, references: References) -> None:
    check_is_noticed(ENCODER_MUTATIONS[name], references)


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(ENCODER_MUTATIONS.values())
