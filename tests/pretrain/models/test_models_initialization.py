"""Initial weights: a function of seed, name and place, of the distribution that the table names; any part alone."""

from __future__ import annotations

import pytest
import torch

from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.initial_values import TILE_COLUMNS, TILE_ROWS, InitialValues
from pretrain.models.initialization import sharded_shape
from pretrain.models.parameter_table import Constant, Normal, ParameterSpec

SHAPE = (2 * TILE_ROWS + 24, TILE_COLUMNS + 88)


def shard(spec: ParameterSpec, rank: int = 0, size: int = 1, seed: int = 1) -> torch.Tensor:
    shape = sharded_shape(spec, rank, size)
    found = torch.full((shape.local_elements,), torch.nan)
    InitialValues(seed)(spec, shape, 0, len(found), found)
    return found.view(shape.local_shape)


def drawn(cutoff: float | None, seed: int = 1, name: str = "w") -> torch.Tensor:
    return shard(ParameterSpec(name, SHAPE, 0, Normal(0.02, cutoff), tensor_axis=0), seed=seed)


def test_values_beyond_the_cutoff_are_drawn_again() -> None:
    free, cut = drawn(None), drawn(2.0)
    assert not torch.equal(drawn(None, seed=2), free)
    assert 4 < free.abs().max() / 0.02 < 6 and 1.99 < cut.abs().max() / 0.02 <= 2
    assert free.std() == pytest.approx(0.02, rel=0.02)
    assert cut.std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # of a normal distribution cut at two
    assert torch.equal(drawn(2.0), cut)
    assert not torch.equal(drawn(2.0, seed=2), cut) and not torch.equal(drawn(2.0, name="v"), cut)


def test_the_tiles_of_a_matrix_differ() -> None:
    whole = drawn(None)
    corners = [
        whole[top : top + 24, left : left + 88] for top in (0, TILE_ROWS, 2 * TILE_ROWS) for left in (0, TILE_COLUMNS)
    ]
    assert len({float(corner.sum()) for corner in corners}) == len(corners)


@pytest.mark.parametrize(("axis", "blocks"), [(0, 1), (0, 2), (1, 1)])
def test_shards_are_parts_of_the_whole(axis: int, blocks: int) -> None:
    spec = ParameterSpec("w", SHAPE, 0, Normal(0.02, 2.0), tensor_axis=axis, blocks=blocks)
    shards = [shard(spec, rank, 4) for rank in range(4)]
    if blocks == 2:  # [gate; up] of each rank
        shards = [part.chunk(2)[block] for block in range(2) for part in shards]
    assert torch.equal(torch.cat(shards, axis), shard(spec))


@pytest.mark.parametrize("axis", [0, 1, None])
def test_every_range_of_a_shard_can_be_drawn_alone(axis: int | None) -> None:
    spec = ParameterSpec("w", SHAPE, 0, Normal(0.02), tensor_axis=axis)
    shape, whole = sharded_shape(spec, 1, 2), shard(spec, 1, 2).view(-1)
    count = len(whole)
    for start, stop in [(0, 1), (7, 5000), (count // 3, count // 3 * 2), (count - 3, count), (9, 9)]:
        part = torch.full((stop - start,), torch.nan, dtype=torch.bfloat16)
        InitialValues(1)(spec, shape, start, stop, part)
        assert torch.equal(part, whole[start:stop].bfloat16())


def test_threads_draw_the_same() -> None:
    spec = ParameterSpec("w", (64 * TILE_ROWS, 40), 0, Normal(0.02))
    shape, alone = sharded_shape(spec, 0, 1), shard(spec).view(-1)
    together = torch.full_like(alone, torch.nan)
    InitialValues(1, threads=4)(spec, shape, 0, len(together), together)
    assert torch.equal(together, alone)


def test_a_range_costs_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[tuple[int, int]] = []
    draw = InitialValues._tile

    def counted(self: InitialValues, spec: ParameterSpec, init: Normal, top: int, left: int) -> object:
        touched.append((top, left))
        return draw(self, spec, init, top, left)

    monkeypatch.setattr(InitialValues, "_tile", counted)
    spec = ParameterSpec("w", (64 * TILE_ROWS, 8 * TILE_COLUMNS), 0, Normal(0.02), tensor_axis=1)
    shape = sharded_shape(spec, 3, 8)
    part = torch.empty(2 * TILE_ROWS * TILE_COLUMNS)
    InitialValues(1)(spec, shape, TILE_ROWS * TILE_COLUMNS, TILE_ROWS * TILE_COLUMNS + len(part), part)
    assert sorted(touched) == [(TILE_ROWS, 3 * TILE_COLUMNS), (2 * TILE_ROWS, 3 * TILE_COLUMNS)]


def test_vectors_and_constants() -> None:
    vector = shard(ParameterSpec("v", (300,), 0, Normal(1.0)))
    assert vector.shape == (300,) and vector.unique().numel() == 300
    assert torch.equal(shard(ParameterSpec("c", (5, 2), 0, Constant(0.5))), torch.full((5, 2), 0.5))


def test_the_cutoff_of_the_config_holds_for_every_matrix() -> None:
    sizes = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 24, "vocab_size": 93}
    model = ModernEncoderConfig(**sizes, init_cutoff=2.0)  # type: ignore[arg-type]
    normals = [spec.init for spec in model.parameters() if isinstance(spec.init, Normal)]
    assert len(normals) > 8 and {init.cutoff for init in normals} == {2.0}
