"""When Python collects its garbage during a training."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from pretrain.garbage import collected_together


class Cycle:
    """What only a collection takes away."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    yield
    assert gc.isenabled() and gc.get_freeze_count() <= frozen


def test_garbage_is_collected_at_the_interval_and_only_there() -> None:
    gone_after = []
    with collected_together(3) as collect:
        assert not gc.isenabled()
        left = weakref.ref(Cycle())
        for step in range(1, 8):
            collect(step)
            if left() is None:
                gone_after.append(step)
                left = weakref.ref(Cycle())
    assert gone_after == [3, 6]


@pytest.mark.slow
def test_what_was_there_before_is_not_looked_at() -> None:
    before = Cycle()
    seen = weakref.ref(before)
    with collected_together(1) as collect:
        del before
        collect(1)
        assert seen() is not None
    gc.collect()
    assert seen() is None


def test_an_interval_of_0_leaves_it_to_python() -> None:
    frozen = gc.get_freeze_count()
    with collected_together(0) as collect:
        left = weakref.ref(Cycle())
        collect(100)
        assert gc.isenabled() and gc.get_freeze_count() == frozen and left() is not None


def test_a_failure_gives_it_back() -> None:
    with pytest.raises(KeyError), collected_together(1):
        raise KeyError
