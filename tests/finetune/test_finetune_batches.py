"""Which examples are in which step: every one once an epoch, similar lengths together, any number of ranks."""

from __future__ import annotations

import pytest

from finetune.batches import Order, by_length, share

LENGTHS = [(n * 37) % 50 + 1 for n in range(331)]


def test_an_epoch_has_every_example_once_and_the_next_another_order() -> None:
    order = Order(LENGTHS, 16, seed=1)
    epochs = [[order.step(number) for number in range(start, start + 21)] for start in (0, 21)]
    for batches in epochs:
        assert sorted(n for batch in batches for n in batch) == list(range(331))
        assert [len(batch) for batch in batches] == [16] * 20 + [11]
    assert epochs[0] != epochs[1]
    assert [Order(LENGTHS, 16, seed=1).step(n) for n in (30, 3)] == [order.step(30), order.step(3)]
    assert Order(LENGTHS, 16, seed=2).step(0) != order.step(0)


def test_lengths_within_a_batch_are_similar() -> None:
    spread = [max(LENGTHS[n] for n in batch) - min(LENGTHS[n] for n in batch) for batch in by_length(LENGTHS, 16)]
    assert max(spread) < 5
    order = Order(LENGTHS, 16, seed=1)
    waste = sum(max(LENGTHS[n] for n in b) * len(b) - sum(LENGTHS[n] for n in b) for b in map(order.step, range(20)))
    assert waste < 0.15 * sum(LENGTHS)


@pytest.mark.parametrize(("world", "micro"), [(1, 16), (2, 4), (4, 4), (1, 1)])
def test_ranks_and_micro_batches_cover_a_batch(world: int, micro: int) -> None:
    for batch in (list(range(16)), list(range(5))):
        parts = [share(batch, 16, rank, world, micro) for rank in range(world)]
        assert {(len(p), len(m)) for p in parts for m in p} == {(16 // world // micro, micro)}
        assert [n for p in parts for m in p for n in m if n >= 0] == batch
