"""What the ranks of a layout would hold, without an engine: the shapes of a small GPT, cut by hand.

Written from the definitions (cut with torch, then flatten), not with the layout algebra under test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pretrain.checkpoint.attempt import Retention, SaveAttempt
from pretrain.checkpoint.directory import step_name, temporary_name
from pretrain.checkpoint.filling import Filler
from pretrain.checkpoint.index import Index
from pretrain.checkpoint.part_writer import plan_part, prepare_copy
from pretrain.checkpoint.state_shards import StateShard
from pretrain.parallel.sharded_shape import ShardedShape
from tests.pretrain.checkpoint.adamw_states import STATES


@dataclass(frozen=True)
class Parameter:
    """A global parameter: which axis tensor ranks cut, in how many blocks, and its share of the depth."""

    name: str
    shape: tuple[int, ...]
    axis: int | None = None
    blocks: int = 1
    depth: float = 0.0


@dataclass(frozen=True)
class FakeLayout:
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    zero: int = 0

    @property
    def size(self) -> int:
        return self.tensor * self.pipeline * self.data

    def coordinates(self, rank: int) -> tuple[int, int, int]:
        """Pipeline, data, tensor rank."""
        plane, tensor = divmod(rank, self.tensor)
        pipeline, data = divmod(plane, self.data)
        return pipeline, data, tensor


SMALL_GPT = [
    Parameter("embedding.word_embeddings.weight", (24, 8), axis=0),
    Parameter("embedding.position_embeddings.weight", (6, 8)),
    *(
        Parameter(f"decoder.layers.{n}.{name}", shape, axis, blocks, depth=(n + 0.5) / 4)
        for n in range(4)
        for name, shape, axis, blocks in [
            ("input_layernorm.weight", (8,), None, 1),
            ("self_attention.linear_qkv.weight", (16, 8), 0, 1),
            ("self_attention.linear_qkv.bias", (16,), 0, 1),
            ("self_attention.linear_proj.weight", (8, 8), 1, 1),
            ("mlp.linear_fc1.weight", (24, 8), 0, 2),
            ("mlp.linear_fc1.bias", (24,), 0, 2),
            ("mlp.linear_fc2.weight", (8, 12), 1, 1),
        ]
    ),
    Parameter("decoder.final_layernorm.weight", (8,), depth=0.999),
]


def random_state(parameters: list[Parameter], seed: int) -> dict[str, dict[str, torch.Tensor]]:
    """state -> name -> global tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {state: {p.name: torch.randn(p.shape, generator=generator) for p in parameters} for state in STATES}


def local_shard(parameter: Parameter, value: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    if parameter.axis is None or size == 1:
        return value
    if parameter.axis == 1:
        return value.chunk(size, dim=1)[rank]
    return torch.cat([block.chunk(size, dim=0)[rank] for block in value.chunk(parameter.blocks, dim=0)])


def sharded_shape(parameter: Parameter, rank: int, size: int) -> ShardedShape:
    local = tuple(local_shard(parameter, torch.empty(parameter.shape), rank, size).shape)
    return ShardedShape(parameter.name, parameter.shape, local, parameter.axis, parameter.blocks, rank, size)


def shards_of(
    layout: FakeLayout, rank: int, values: dict[str, dict[str, torch.Tensor]], parameters: list[Parameter] | None = None
) -> list[StateShard]:
    """The shards of one rank, holding `values`; views into one flat memory per state, as an optimizer has it."""
    pipeline, data, tensor = layout.coordinates(rank)
    mine = [p for p in parameters or SMALL_GPT if int(p.depth * layout.pipeline) == pipeline]
    shapes = [sharded_shape(p, tensor, layout.tensor) for p in mine]
    sizes = [math.prod(shape.local_shape) for shape in shapes]
    ranges = _ranges(sizes, layout, data)
    flat = {
        state: torch.cat(
            [
                local_shard(p, values[state][p.name], tensor, layout.tensor).flatten()[a:b]
                for p, (a, b) in zip(mine, ranges, strict=True)
            ]
        )
        for state in STATES
    }
    shards, end = [], 0
    for parameter, shape, (start, stop) in zip(mine, shapes, ranges, strict=True):
        if start < stop:
            views = {state: flat[state][end : end + stop - start] for state in STATES}
            end += stop - start
            owner = (layout.zero > 0 or data == 0) and (parameter.axis is not None or tensor == 0)
            shards.append(StateShard(shape, start, stop, views, owner))
    return shards


def _ranges(sizes: list[int], layout: FakeLayout, data: int) -> list[tuple[int, int]]:
    if layout.zero == 0:
        return [(0, size) for size in sizes]
    if layout.zero == 3:
        shares = [-(-size // layout.data) for size in sizes]
        return [(min(size, data * n), min(size, (data + 1) * n)) for size, n in zip(sizes, shares, strict=True)]
    share = -(-sum(sizes) // layout.data)
    low, high, start, ranges = data * share, (data + 1) * share, 0, []
    for size in sizes:
        ranges.append((min(size, max(0, low - start)), min(size, max(0, high - start))))
        start += size
    return ranges


def save_all_ranks(root, step: int, layout: FakeLayout, values, parameters=None, metadata=None):
    """Save as the ranks of `layout` would, one after the other in this process."""
    directory = root / temporary_name(step, "feed")
    directory.mkdir(parents=True)
    for rank in reversed(range(layout.size)):
        plan = plan_part(shards_of(layout, rank, values, parameters), rank)
        buffer = torch.empty(plan.elements)
        copy = prepare_copy(plan, buffer)
        content = metadata or {"step": step}
        attempt = SaveAttempt(directory, step, content, plan, buffer, copy, rank, layout.size, Retention(99, None), 5.0)
        attempt.run()
        assert attempt.problem is None, attempt.problem
    return root / step_name(step)


def load_all_ranks(path, layout: FakeLayout, parameters=None) -> list[list[StateShard]]:
    """Load as the ranks of `layout` would, into memory full of NaN."""
    nothing = {state: {p.name: torch.full(p.shape, math.nan) for p in parameters or SMALL_GPT} for state in STATES}
    index = Index.open(path)
    ranks = [shards_of(layout, rank, nothing, parameters) for rank in range(layout.size)]
    for shards in ranks:
        Filler(index, shards).fill()
    return ranks


def assert_shards_equal(found: list[StateShard], expected: list[StateShard]) -> None:
    assert len(found) == len(expected)
    for shard, other in zip(found, expected, strict=True):
        assert (shard.shape, shard.start, shard.stop) == (other.shape, other.start, other.stop)
        for state in STATES:
            assert torch.equal(shard.tensors[state], other.tensors[state]), f"{shard.shape.name} {state}"
