from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from faked_layouts import (
    SMALL_GPT,
    FakeLayout,
    Parameter,
    assert_shards_equal,
    load_all_ranks,
    local_shard,
    random_state,
    save_all_ranks,
    sharded_shape,
    shards_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.part_writer import adjacent_runs
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.checkpoint.state_shards import StateShard, as_matrix, rectangles, tiles_exactly
from pretrain.checkpoint.writer import CheckpointWriter
from pretrain.parallel.sharded_shape import ShardedShape

LAYOUTS = [
    FakeLayout(),
    FakeLayout(data=3, zero=0),
    FakeLayout(data=3, zero=1),
    FakeLayout(data=5, zero=3),
    FakeLayout(tensor=2, data=2, zero=1),
    FakeLayout(tensor=2, pipeline=2, data=2, zero=3),
    FakeLayout(tensor=4, pipeline=4, zero=1),
    FakeLayout(pipeline=4, data=2, zero=2),
]


@st.composite
def sharded_parameters(draw):
    """A parameter of any shape, cut over any number of tensor ranks."""
    size = draw(st.integers(1, 5))
    axes = draw(st.integers(1, 3))
    shape = [draw(st.integers(1, 6)) for _ in range(axes)]
    axis = draw(st.sampled_from([None, *range(min(axes, 2))]))
    blocks = draw(st.integers(1, 3)) if axis == 0 else 1
    if axis is not None:
        shape[axis] *= size * blocks
    return Parameter("weight", tuple(shape), axis, blocks), size


@st.composite
def cuts(draw, length: int):
    """Ends of consecutive ranges that cover `length` elements; ranges may be empty, as ZeRO's are."""
    inner = draw(st.lists(st.integers(0, length), max_size=4))
    return [0, *sorted(inner), length]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_rectangles_cover_every_element_once_and_name_the_right_one(data):
    parameter, size = data.draw(sharded_parameters())
    rows, columns = as_matrix(parameter.shape)
    numbers = torch.arange(rows * columns, dtype=torch.float64).reshape(parameter.shape)
    matrix = numbers.reshape(rows, columns).numpy()
    seen = np.zeros((rows, columns), dtype=np.int64)
    everything = []
    for rank in range(size if parameter.axis is not None else 1):
        flat = local_shard(parameter, numbers, rank, size).flatten().numpy()
        shape = sharded_shape(parameter, rank, size)
        for start, stop in itertools.pairwise(data.draw(cuts(len(flat)))):
            found = rectangles(shape, start, stop)
            everything.append(found)
            assert len(found) <= 3 * max(parameter.blocks, 1)
            held = np.full(stop - start, -1.0)
            for row0, row1, column0, column1, offset in found.tolist():
                box = matrix[row0:row1, column0:column1]
                held[offset : offset + box.size] = box.flatten()
                seen[row0:row1, column0:column1] += 1
            assert np.array_equal(held, flat[start:stop])
    assert (seen == 1).all()
    assert tiles_exactly(np.concatenate(everything), parameter.shape)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_tiles_exactly_agrees_with_counting(data):
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    boxes, seen = [], np.zeros((rows, columns), dtype=np.int64)
    for _ in range(data.draw(st.integers(0, 6))):
        row0, column0 = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        row1 = data.draw(st.integers(row0 + 1, rows))
        column1 = data.draw(st.integers(column0 + 1, columns))
        boxes.append((row0, row1, column0, column1, 0))
        seen[row0:row1, column0:column1] += 1
    # Often complete what is missing, so that the exact cover is not a rare accident.
    if data.draw(st.booleans()):
        for row, column in np.argwhere(seen == 0).tolist():
            boxes.append((row, row + 1, column, column + 1, 0))
            seen[row, column] += 1
    found = np.array(boxes, dtype=np.int64).reshape(-1, 5)
    assert tiles_exactly(found, (rows, columns)) == bool((seen == 1).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"local_shape": (3, 8)}, "local shape"),
        ({"tensor_axis": 2}, "tensor_axis 2"),
        ({"tensor_rank": 2}, "tensor rank 2 of 2"),
        ({"blocks": 3}, "not a multiple of 6"),
        ({"tensor_axis": 1, "blocks": 2, "local_shape": (8, 4)}, "blocks are rows"),
    ],
)
def test_impossible_shards_are_refused(change, message):
    sound = {"name": "w", "global_shape": (8, 8), "local_shape": (4, 8), "tensor_axis": 0, "tensor_size": 2}
    ShardedShape(**sound)
    with pytest.raises(ValueError, match=message):
        ShardedShape(**(sound | change))


@pytest.mark.parametrize(("start", "stop"), [(-1, 4), (5, 4), (0, 33)])
def test_ranges_outside_the_shard_are_refused(start, stop):
    with pytest.raises(ValueError, match="of a shard of 32 elements"):
        rectangles(ShardedShape("w", (4, 8), (4, 8)), start, stop)


@pytest.mark.parametrize("source", LAYOUTS, ids=str)
def test_any_layout_loads_into_any_other_bitwise(tmp_path, source):
    values = random_state(SMALL_GPT, seed=1)
    path = save_all_ranks(tmp_path, 7, source, values)
    for target in LAYOUTS:
        for rank, shards in enumerate(load_all_ranks(path, target)):
            assert_shards_equal(shards, shards_of(target, rank, values))


def test_only_neighbours_in_one_memory_are_copied_as_one():
    memory, other = torch.arange(10.0), torch.arange(100.0, 110.0)
    tensors = [memory[0:3], memory[3:5], memory[6:8], other[8:10], memory[8:10], memory[0:2]]
    runs = adjacent_runs(tensors)
    assert torch.equal(torch.cat(runs), torch.cat(tensors))
    assert [len(run) for run in runs] == [5, 2, 2, 2, 2]


def test_several_shards_of_one_tensor_on_a_rank(tmp_path):
    """As with a parameter that lies in two buckets of an optimizer."""
    values = random_state(SMALL_GPT, seed=4)
    halves = []
    for shard in shards_of(FakeLayout(), 0, values):
        cut = shard.elements // 3
        for start, stop in ((0, cut), (cut, shard.elements)):
            views = {state: tensor[start:stop] for state, tensor in shard.tensors.items()}
            halves.append(StateShard(shard.shape, start, stop, views))
    writer = CheckpointWriter(tmp_path, asynchronous=False)
    writer.save(1, halves, {"step": 1})
    reader = CheckpointReader(tmp_path)
    for parameter in SMALL_GPT:
        assert torch.equal(reader.tensor(parameter.name, "exp_avg"), values["exp_avg"][parameter.name])
    assert len(load_file(tmp_path / "step_00000001" / "rank00000.safetensors")) == 3 * len(halves)
    for shard in halves:
        shard.tensors["master"].zero_()
    load_checkpoint(tmp_path, halves)
    whole = torch.cat([shard.tensors["master"] for shard in halves[:2]])
    assert torch.equal(whole, values["master"]["embedding.word_embeddings.weight"].flatten())


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_parameters_survive_random_layouts(tmp_path_factory, data):
    def layout(tensor: int) -> FakeLayout:
        return FakeLayout(
            tensor, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), data.draw(st.integers(0, 3))
        )

    first, second = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    parameters = []
    for number in range(data.draw(st.integers(1, 4))):
        parameter, _ = data.draw(sharded_parameters())
        cut = math.lcm(first, second) * parameter.blocks
        shape = tuple(n * cut if axis == parameter.axis else n for axis, n in enumerate(parameter.shape))
        depth = data.draw(st.floats(0, 0.99))
        parameters.append(Parameter(f"p{number}", shape, parameter.axis, parameter.blocks, depth))
    source, target = layout(first), layout(second)
    values = random_state(parameters, seed=2)
    # Every stage must hold something: an empty flat memory is the engine's problem.
    for one in (source, target):
        stages = {int(p.depth * one.pipeline) for p in parameters}
        if len(stages) < one.pipeline:
            return
    path = save_all_ranks(tmp_path_factory.mktemp("any"), 1, source, values, parameters)
    for rank, shards in enumerate(load_all_ranks(path, target, parameters)):
        assert_shards_equal(shards, shards_of(target, rank, values, parameters))
    reader = CheckpointReader(path)
    for parameter in parameters:
        assert torch.equal(reader.tensor(parameter.name, "exp_avg"), values["exp_avg"][parameter.name])
