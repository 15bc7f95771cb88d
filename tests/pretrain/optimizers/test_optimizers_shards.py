"""Optimizers that look at whole parameters give each rank what one process computes, where no two rows are alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pretrain.config.optimizer import OptimizerConfig
from pretrain.models.parameter_table import Constant, ParameterSpec
from pretrain.optimizers.adafactor_config import AdafactorConfig
from pretrain.optimizers.lamb_config import LambConfig
from pretrain.optimizers.muon_config import MuonConfig
from tests.distributed import run_ranks
from tests.pretrain.optimizers.flat_run import DECAY, numbers, stepped

LR = 0.05
CONFIGS: dict[str, OptimizerConfig] = {
    "lamb": LambConfig(lr=LR),
    "adafactor": AdafactorConfig(lr=LR),
    "muon": MuonConfig(lr=LR),
}
# Cut by rows as a gated weight is, by columns, not at all; and no multiple of the ranks.
SPECS = (
    ParameterSpec("gated", (8, 6), 0, Constant(0.0), tensor_axis=0, blocks=2, row_pattern=(4, 4)),
    ParameterSpec("output", (5, 8), 0, Constant(0.0), tensor_axis=1),
    ParameterSpec("square", (7, 3), 0, Constant(0.0)),
)


def _uneven(spec: ParameterSpec, seed: int) -> torch.Tensor:
    """Numbers whose rows and columns differ by orders of magnitude."""
    rows, columns = spec.shape
    return numbers(spec, seed) * torch.logspace(-2, 0, rows).unsqueeze(1) * torch.logspace(0, -1, columns)


def _gradients(spec: ParameterSpec) -> list[torch.Tensor]:
    return [_uneven(spec, seed) for seed in (2, 3, 4)]


def _whole(name: str) -> list[torch.Tensor]:
    return [stepped(CONFIGS[name], spec, _uneven(spec, 1), _gradients(spec)) for spec in SPECS]


def sharded(tensor: int, broken: str | None) -> dict[str, list[torch.Tensor]]:
    """On each of two tensor ranks, or two data ranks: its part of each weight after the steps, NaN elsewhere."""
    from pretrain.optimizers.parameter_slices import SliceRanks

    if broken is not None:
        setattr(SliceRanks, broken, lambda self, tensors: None)
    return {name: _trained(name, tensor) for name in CONFIGS}


def _trained(name: str, tensor: int) -> list[torch.Tensor]:
    import torch.distributed as dist

    from pretrain.optimizers.optimizer import optimizer_kind_of
    from pretrain.optimizers.parameter_slices import ParameterSlice, SliceRanks
    from pretrain.parallel.sharded_shape import ShardedShape

    config, rank, world = CONFIGS[name], dist.get_rank(), dist.group.WORLD
    data_rank, tensor_rank = (0, rank) if tensor == 2 else (rank, 0)
    slices, starts, offset = [], [], 0
    for spec in SPECS:
        axis = spec.tensor_axis
        shape = ShardedShape(
            spec.name, spec.shape, spec.local_shape(tensor), axis, spec.blocks if axis == 0 else 1, tensor_rank, tensor
        )
        local = shape.local_elements
        # An uneven cut, in the middle of a row.
        bounds = [0, local // 3 + 1, local] if tensor == 1 else [0, local]
        slices.append(ParameterSlice(spec, shape, *bounds[data_rank : data_rank + 2], offset))
        starts.append(_local(slices[-1], _uneven(spec, 1)))
        offset += slices[-1].elements
    flat = torch.nn.Parameter(torch.cat(starts))
    optimizer: Any = optimizer_kind_of(config).build([{"params": [flat], "weight_decay": DECAY}], config)
    ranks = SliceRanks(
        data_group=world if tensor == 1 else None, tensor_group=world if tensor == 2 else None, plane_group=world
    )
    optimizer.attach({flat: slices}, ranks)
    for step in range(3):
        flat.grad = torch.cat([_local(part, _gradients(part.spec)[step]) for part in slices])
        optimizer.step()
    return [_global(part, flat.detach()) for part in slices]


def _boxes(part: Any) -> list[tuple[slice, slice, slice]]:
    from pretrain.checkpoint.state_shards import rectangles

    return [
        (slice(top, bottom), slice(left, right), slice(offset, offset + (bottom - top) * (right - left)))
        for top, bottom, left, right, offset in rectangles(part.shape, part.start, part.stop).tolist()
    ]


def _local(part: Any, whole: torch.Tensor) -> torch.Tensor:
    return torch.cat([whole[rows, columns].reshape(-1) for rows, columns, _ in _boxes(part)])


def _global(part: Any, flat: torch.Tensor) -> torch.Tensor:
    whole, own = torch.full(part.spec.shape, float("nan")), part.of(flat)
    for rows, columns, place in _boxes(part):
        whole[rows, columns] = own[place].view(whole[rows, columns].shape)
    return whole


def _differences(tensor: int, broken: str | None = None) -> dict[str, list[float]]:
    """Of each optimizer and weight the largest difference of a rank's part to the whole; no element may be missing."""
    found = run_ranks(sharded, 2, tensor, broken, preload=("pretrain.optimizers.muon",))
    largest: dict[str, list[float]] = {}
    for name in CONFIGS:
        for number, expected in enumerate(_whole(name)):
            parts = [torch.nan_to_num((rank[name][number] - expected).abs(), nan=-1.0) for rank in found]
            assert torch.stack(parts).max(0).values.min() >= 0
            largest.setdefault(name, []).append(max(float(part.max()) for part in parts))
    return largest


@pytest.mark.parametrize("tensor", [1, 2], ids=["data", "tensor"])
def test_shards_are_updated_as_the_whole(tensor: int) -> None:
    found = _differences(tensor)
    assert max(map(max, found.values())) < 2e-6, found


@pytest.mark.slow
@pytest.mark.parametrize(("tensor", "sums"), [(1, "sum_over_data"), (2, "sum_over_tensor")])
def test_sums_that_are_left_out_are_noticed(tensor: int, sums: str) -> None:
    differences = _differences(tensor, broken=sums)
    for name in ("lamb", "adafactor"):
        found = differences[name]
        assert min(found if tensor == 1 else found[:2]) > 1e-4, found
        # Tensor ranks have all of the third.
        assert tensor == 1 or found[2] < 2e-6
    assert max(differences["muon"]) < 2e-6
