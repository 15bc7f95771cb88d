"""Which examples are in which step: pure functions of (seed, step), the same for every number of ranks.

Shape letters: B samples of a micro-batch, S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_WINDOW_BATCHES = 16  # batches over which lengths are sorted: less padding, order still random


class Order:
    """The order of training.

    Args:
        lengths: tokens of each example.
        batch_size: samples per step, over all ranks.
        seed: decides the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self._epoch_at_hand: tuple[int, list[list[int]]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is seen once; the last one may be smaller."""
        return -(-len(self.lengths) // self.batch_size)

    def step(self, number: int) -> list[int]:
        """Numbers of the examples of a step, from 0; fewer than `batch_size` only in the last of an epoch."""
        epoch, index = divmod(number, self.steps_per_epoch)
        if self._epoch_at_hand[0] != epoch:
            self._epoch_at_hand = (epoch, self._batches(epoch))
        return self._epoch_at_hand[1][index]

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = np.random.default_rng([self.seed, epoch])
        shuffled = generator.permutation(len(self.lengths)).tolist()
        window = self.batch_size * _WINDOW_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), window):
            near = sorted(shuffled[start : start + window], key=lambda n: (self.lengths[n], n))
            batches += [near[at : at + self.batch_size] for at in range(0, len(near), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        return [full[n] for n in generator.permutation(len(full)).tolist()] + rest


def share(batch: Sequence[int], batch_size: int, rank: int, world_size: int, micro_batch_size: int) -> list[list[int]]:
    """A rank's micro-batches of a step; -1 stands where a smaller last batch has no example.

    Every rank gets as many micro-batches of the same size, as collectives under ZeRO need.
    """
    padded = list(batch) + [-1] * (batch_size - len(batch))
    mine = padded[rank * (batch_size // world_size) : (rank + 1) * (batch_size // world_size)]
    return [mine[at : at + micro_batch_size] for at in range(0, len(mine), micro_batch_size)]


def repeated(numbers: Sequence[int]) -> list[bool]:
    """Of each example of a micro-batch, whether it stands there before: as what fills a place without an example does.

    Losses that compare the examples of a micro-batch leave these out of the comparison.
    """
    first = {number: place for place, number in reversed([*enumerate(numbers)])}
    return [first[number] != place for place, number in enumerate(numbers)]


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All examples in batches of similar length, for evaluation; the last one may be smaller."""
    order = sorted(range(len(lengths)), key=lambda n: (lengths[n], n))
    return [order[at : at + size] for at in range(0, len(order), size)]


def in_turn(rows: Sequence[int], size: int) -> list[list[int]]:
    """Examples in their order in groups of at most `size` rows; one with more rows is a group of its own.

    Args:
        rows: of each example, such as its windows.
        size: of a group.
    """
    groups: list[list[int]] = []
    held = size
    for number, count in enumerate(rows):
        if held + count > size:
            groups.append([])
            held = 0
        groups[-1].append(number)
        held += count
    return groups


def collate(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, int64 [B, S], padded on the right.

    No longer than the longest row: a model's positions may end there.
    """
    import torch

    width = max(len(row) for row in rows)
    tokens_BS = torch.full((len(rows), width), pad, dtype=torch.int64)
    mask_BS = torch.zeros((len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        tokens_BS[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask_BS[number, : len(row)] = 1
    return tokens_BS, mask_BS
