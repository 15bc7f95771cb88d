"""What a rank stores of the model's state, and which rectangles of the global tensors that is.

A rank of any layout (ZeRO stage x tensor x pipeline x data) stores flat ranges of its tensor-parallel shards. In the
global tensor, read as a matrix, such a range is at most three rectangles (six for a gated fc1), so going from one
layout to another is the intersection of rectangles.

Shape letters: R rows and C columns of the global matrix, K rectangles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pretrain.parallel.sharded_shape import ShardedShape

if TYPE_CHECKING:
    import torch

BYTES_PER_ELEMENT = 4

Rectangles = npt.NDArray[np.int64]
"""int64[K, 5]: first row, end row, first column, end column of the global matrix, and the element offset in memory."""


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the 2-D view that rectangles refer to: the first axis, and all others joined."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


@dataclass
class StateShard:
    """What this rank stores of one parameter: its fp32 master weights and optimizer states, as views of their memory.

    Attributes:
        shape: the parameter's tensor-parallel shard, of which this is a flat range.
        start: first element of the range in the flattened tensor-parallel shard.
        stop: one past its last element.
        tensors: for the fp32 weights and each state of the optimizer, by its name, a flat, contiguous fp32 tensor of
            `stop - start` elements. Saving reads them, loading writes them in place.
        is_owner: whether this rank writes it to a checkpoint; of replicas, one rank does.
    """

    shape: ShardedShape
    start: int
    stop: int
    tensors: dict[str, torch.Tensor]
    is_owner: bool = True

    @property
    def elements(self) -> int:
        """Elements of each of the tensors."""
        return self.stop - self.start

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self.tensors)


def states_of(shards: Iterable[StateShard]) -> tuple[str, ...]:
    """Every state that any of the shards has, in the order in which they first occur."""
    return tuple(dict.fromkeys(state for shard in shards for state in shard.states))


def rectangles(shape: ShardedShape, start: int, stop: int) -> Rectangles:
    """Where the flat range `[start, stop)` of the local shard lies in the global matrix.

    Returns:
        int64[K, 5], one rectangle a line: first row, end row, first column, end column of the global 2-D view, and
        the element offset of the rectangle from `start`. In the order of the flat range; row-major within each.

    Raises:
        ValueError: if the range does not lie in the shard.
    """
    if not 0 <= start <= stop <= shape.local_elements:
        raise ValueError(f"{shape.name}: range [{start}, {stop}) of a shard of {shape.local_elements} elements")
    rows, columns = as_matrix(shape.local_shape)
    first_column = shape.tensor_rank * columns if shape.tensor_axis == 1 else 0
    found: list[tuple[int, int, int, int, int]] = []
    offset = 0
    for row0, row1, column0, column1 in _local_rectangles(columns, start, stop):
        for block_row0, block_row1, global_row in _row_blocks(shape, rows):
            low, high = max(row0, block_row0), min(row1, block_row1)
            if low < high:
                top = global_row + low - block_row0
                found.append((top, top + high - low, first_column + column0, first_column + column1, offset))
                offset += (high - low) * (column1 - column0)
    return np.array(found, dtype=np.int64).reshape(-1, 5)


def _local_rectangles(columns: int, start: int, stop: int) -> list[tuple[int, int, int, int]]:
    """The end of a started row, the whole rows, the beginning of a last row."""
    found = []
    if start < stop and start % columns:
        row, column = divmod(start, columns)
        end = min(stop, (row + 1) * columns)
        found.append((row, row + 1, column, column + end - start))
        start = end
    if stop - start >= columns:
        found.append((start // columns, stop // columns, 0, columns))
        start = stop // columns * columns
    if start < stop:
        found.append((start // columns, start // columns + 1, 0, stop - start))
    return found


def _row_blocks(shape: ShardedShape, rows: int) -> list[tuple[int, int, int]]:
    """Blocks of rows that stay together: first and end row in the shard, first row in the global matrix."""
    if shape.tensor_axis != 0:
        return [(0, rows, 0)]
    local_height = rows // shape.blocks
    global_height = local_height * shape.tensor_size
    return [
        (i * local_height, (i + 1) * local_height, i * global_height + shape.tensor_rank * local_height)
        for i in range(shape.blocks)
    ]


def tiles_exactly(found: Rectangles, shape: tuple[int, ...]) -> bool:
    """Whether the rectangles cover every element of a tensor of `shape` once and no element twice.

    The sum of the rectangles' indicator functions equals the tensor's if and only if their mixed differences (+1, -1,
    -1, +1 at the four corners) do, so counting signed corners decides it exactly, in K log K.
    """
    rows, columns = as_matrix(shape)
    if len(found) == 0:
        return rows * columns == 0
    whole = np.array([[0, rows, 0, columns]], dtype=np.int64)
    corners, signs = [], []
    for boxes, sign in ((found[:, :4], 1), (whole, -1)):
        row0, row1, column0, column1 = boxes.T
        stride = columns + 1
        corners += [row0 * stride + column0, row1 * stride + column1, row0 * stride + column1, row1 * stride + column0]
        signs += [np.full(len(boxes), sign), np.full(len(boxes), sign)]
        signs += [np.full(len(boxes), -sign), np.full(len(boxes), -sign)]
    _, place = np.unique(np.concatenate(corners), return_inverse=True)
    return not np.bincount(place, weights=np.concatenate(signs)).any()
