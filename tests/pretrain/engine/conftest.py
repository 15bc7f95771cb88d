"""What the tests of equivalence share: the single process's trajectories, each run once for all of them."""

from __future__ import annotations

import pytest

from tests.pretrain.engine.equivalence_table import References


@pytest.fixture(scope="session")
def references() -> References:
    return References()
