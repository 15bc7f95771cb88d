"""Low-rank adapters train in each layout as in one process."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.all_cases import CASE_BY_NAME
from tests.pretrain.engine.broken_engine import check_is_noticed
from tests.pretrain.engine.equivalence_table import References, check
from tests.pretrain.engine.low_rank_mutations import LOW_RANK_MUTATIONS

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table lora`.
SLOW = ("lora, zero 3, tensor 2, sequence, gpt2 untied", "lora, zero 2, pipeline 2", "lora, zero 1, tensor 2")


@pytest.fixture(scope="module")
def references() -> References:
    return References()


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_layout_of_an_adapter_equals_one_process(name: str, references: References) -> None:
    check(CASE_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LOW_RANK_MUTATIONS))
def test_every_broken_adapter_is_noticed(name: str, references: References) -> None:
    check_is_noticed(LOW_RANK_MUTATIONS[name], references)
