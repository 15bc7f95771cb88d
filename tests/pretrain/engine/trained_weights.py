"""The weights of a layout after some steps, of whatever ranks, by name."""

from __future__ import annotations

import torch

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case

STEPS = 10
Weights = dict[str, torch.Tensor]


def trained(case: Case, steps: int) -> Weights:
    """On each rank: the fp32 weights that it owns after some steps, in global shape, NaN where others own them."""
    from pretrain.checkpoint.state_shards import as_matrix, rectangles
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout
    from tests.pretrain.engine.layout_cases import objective_of

    torch.set_num_threads(1)
    config, launch = case.config(), discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    engine = TrainEngine(config, place, objective_of(config))
    for step in range(steps):
        batches = case.micro_batches(step, place.data_rank, place.layout.data)
        assert engine.train_batch(batches, step=step, learning_rate=case.peak_lr * (step + 1) / STEPS).applied
    found: Weights = {}
    for shard in engine.shards():
        if not shard.is_owner or "master" not in shard.tensors:
            continue
        whole = found.setdefault(shard.shape.name, torch.full(as_matrix(shard.shape.global_shape), float("nan")))
        for top, bottom, left, right, at in rectangles(shard.shape, shard.start, shard.stop).tolist():
            size = (bottom - top) * (right - left)
            whole[top:bottom, left:right] = shard.tensors["master"][at : at + size].view(bottom - top, -1)
    return found


def weights_of(case: Case, steps: int = STEPS) -> Weights:
    """All weights of a case after its steps.

    Raises:
        AssertionError: an element is on no rank.
    """
    joined: Weights = {}
    for rank in run_ranks(trained, case.ranks, case, steps, process_group=False, preload=PRELOAD, timeout_s=300):
        for name, part in rank.items():
            known = joined.setdefault(name, part)
            known[part == part] = part[part == part]
    assert all(torch.isfinite(weight).all() for weight in joined.values()), "an element is on no rank"
    return joined


def distance(one: Weights, other: Weights) -> float:
    """The norm of the difference of all weights."""
    assert one.keys() == other.keys()
    return sum(float((one[name].double() - other[name].double()).square().sum()) for name in one) ** 0.5
