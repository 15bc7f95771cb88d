"""One parameter as one tensor-parallel rank has it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ShardedShape:
    """One parameter as a tensor-parallel rank sees it.

    Attributes:
        name: global parameter name, such as `decoder.layers.3.mlp.linear_fc1.weight`.
        global_shape: shape of the whole parameter.
        local_shape: shape of this tensor rank's shard.
        tensor_axis: axis that is cut over the tensor ranks (0 or 1); None where every rank holds all of it.
        blocks: equal parts along axis 0 that are each cut over the tensor ranks: 2 for a gated fc1, whose shard is
            `[gate_r; up_r]` of the global `[gate; up]`; else 1.
        tensor_rank: which shard this is.
        tensor_size: how many shards there are.
    """

    name: str
    global_shape: tuple[int, ...]
    local_shape: tuple[int, ...]
    tensor_axis: int | None = None
    blocks: int = 1
    tensor_rank: int = 0
    tensor_size: int = 1

    def __post_init__(self) -> None:
        expected = list(self.global_shape)
        if self.tensor_axis is not None:
            if self.tensor_axis not in (0, 1) or self.tensor_axis >= len(expected):
                raise ValueError(f"{self.name}: tensor_axis {self.tensor_axis} of shape {self.global_shape}")
            if not 0 <= self.tensor_rank < self.tensor_size:
                raise ValueError(f"{self.name}: tensor rank {self.tensor_rank} of {self.tensor_size}")
            if self.blocks != 1 and self.tensor_axis != 0:
                raise ValueError(f"{self.name}: {self.blocks} blocks on axis {self.tensor_axis}; blocks are rows")
            cut = self.tensor_size * self.blocks
            if expected[self.tensor_axis] % cut:
                raise ValueError(f"{self.name}: {expected[self.tensor_axis]} is not a multiple of {cut}")
            expected[self.tensor_axis] //= self.tensor_size
        if tuple(expected) != tuple(self.local_shape):
            raise ValueError(f"{self.name}: local shape {self.local_shape}, expected {tuple(expected)}")

    @property
    def local_elements(self) -> int:
        """Elements of the shard."""
        return math.prod(self.local_shape)
