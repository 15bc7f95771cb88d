"""Brings each weight, of which ranks have parts, as a whole to one of them, and what that computes back to all.

The weights go round the ranks, so that each computes its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.distributed as dist

from pretrain.checkpoint.state_shards import Rectangles, as_matrix, rectangles
from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks

Compute = Callable[[ParameterSlice, torch.Tensor], torch.Tensor]
"""From a whole weight [rows, columns] to what is to be handed out, of the same shape."""


class MatrixExchange:
    """The parameters of one flat tensor. Made by all ranks that share them, together.

    Args:
        slices: what this rank has of each parameter, in one order on all ranks.
        ranks: who has the rest.
    """

    def __init__(self, slices: Sequence[ParameterSlice], ranks: SliceRanks) -> None:
        self._slices, self._ranks, self._group = slices, ranks, ranks.plane_group
        own = [(part.shape.tensor_rank, part.start, part.stop) for part in slices]
        everyone = [own]
        if self._group is not None:
            everyone = [[] for _ in range(dist.get_world_size(self._group))]
            dist.all_gather_object(everyone, own, group=self._group)
        self._rank = 0 if self._group is None else dist.get_rank(self._group)
        self._places = [[_place(part, *found[k]) for found in everyone] for k, part in enumerate(slices)]
        """Of each parameter and rank the rectangles of the whole weight that it holds."""
        self._is_source = [[part.is_cut or found[k][0] == 0 for found in everyone] for k, part in enumerate(slices)]
        """Whether a rank hands in its part: of what tensor ranks all have, the first does."""

    def apply(self, flat: torch.Tensor, compute: Compute) -> Iterator[tuple[ParameterSlice, torch.Tensor]]:
        """Compute from whole weights; for each slice of this rank the result, [elements]. Collective.

        Args:
            flat: the flat tensor whose slices hold the parts.
            compute: called on one rank for each weight.
        """
        size = len(self._places[0])
        for start in range(0, len(self._slices), size):
            numbers = range(start, min(start + size, len(self._slices)))
            mine = start + self._rank if start + self._rank in numbers else None
            parts = self._to_owners(flat, numbers, mine)
            result = None
            if mine is not None:
                whole = self._joined(mine, parts)
                result = compute(self._slices[mine], whole)
            for number, update in zip(numbers, self._from_owners(numbers, mine, result)):
                if self._slices[number].elements:
                    yield self._slices[number], update.to(flat.device)

    def _elements(self, number: int, rank: int) -> int:
        found = self._places[number][rank]
        return int(((found[:, 1] - found[:, 0]) * (found[:, 3] - found[:, 2])).sum())

    def _to_owners(self, flat: torch.Tensor, numbers: range, mine: int | None) -> list[torch.Tensor]:
        """Every rank's part of weight `mine`, [elements] each."""
        own = [self._slices[k].of(flat) if self._is_source[k][self._rank] else flat.new_empty(0) for k in numbers]
        wanted = [
            self._elements(mine, rank) if mine is not None and self._is_source[mine][rank] else 0
            for rank in range(len(self._places[0]))
        ]
        return self._exchange(own, wanted)

    def _from_owners(self, numbers: range, mine: int | None, result: torch.Tensor | None) -> list[torch.Tensor]:
        """What this rank has of the result of each of the weights `numbers`."""
        ranks = range(len(self._places[0]))
        out = [torch.empty(0) for _ in ranks]
        if mine is not None and result is not None:
            out = [_cut(result, self._places[mine][rank]) for rank in ranks]
        return self._exchange(out, [self._elements(k, self._rank) for k in numbers])

    def _exchange(self, own: list[torch.Tensor], wanted: list[int]) -> list[torch.Tensor]:
        """Part k of `own` goes to rank k; `wanted` says how many elements come from each."""
        if self._group is None:
            return own
        size = len(self._places[0])
        sizes = [part.numel() for part in own] + [0] * (size - len(own))
        wanted = wanted + [0] * (size - len(wanted))
        sent = torch.cat([part.reshape(-1).to(self._ranks.device, torch.float32) for part in own])
        received = sent.new_empty(sum(wanted))
        dist.all_to_all_single(received, sent, wanted, sizes, group=self._group)
        return list(received.split(wanted))

    def _joined(self, number: int, parts: list[torch.Tensor]) -> torch.Tensor:
        rows, columns = as_matrix(self._slices[number].spec.shape)
        whole = torch.empty((rows, columns), device=parts[0].device)
        for rank, part in enumerate(parts):
            if part.numel():
                for row0, row1, column0, column1, offset in self._places[number][rank].tolist():
                    size = (row1 - row0) * (column1 - column0)
                    whole[row0:row1, column0:column1] = part[offset : offset + size].view(row1 - row0, -1)
        return whole


def _place(part: ParameterSlice, tensor_rank: int, start: int, stop: int) -> Rectangles:
    shape = replace(part.shape, tensor_rank=tensor_rank) if part.shape.tensor_axis is not None else part.shape
    return rectangles(shape, start, stop)


def _cut(whole: torch.Tensor, found: Rectangles) -> torch.Tensor:
    parts = [whole[row0:row1, column0:column1].reshape(-1) for row0, row1, column0, column1, _ in found.tolist()]
    return torch.cat(parts) if parts else whole.new_empty(0)
