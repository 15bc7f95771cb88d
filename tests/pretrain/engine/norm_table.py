"""Gradient and parameter norms of each way to hold a model against fp64, over many elements.

    python -m tests.pretrain.engine.norm_table [--elements 40M 200M]

Every row is one training step of the same model from the same weights. The expected norms are those of one process,
each shard converted to fp64 as a whole. Exit status 1 if a row is off by more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist

from pretrain.parallel.layout import resolve_layout
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case, objective_of

LIMIT = 1e-5
SIZES: dict[str, dict[str, Any]] = {
    "1M": {"hidden_size": 128, "vocab_size": 6144, "ffn_hidden_size": 256, "num_layers": 2},
    "40M": {"hidden_size": 512, "vocab_size": 57344, "ffn_hidden_size": 1408, "num_layers": 4},
    "200M": {"hidden_size": 1024, "vocab_size": 151552, "ffn_hidden_size": 2816, "num_layers": 4},
}
"""Models of about so many weights, most of them in one matrix, where sums are longest."""

LAYOUTS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("1 rank", 1, {"zero_stage": 0}),
    ("ZeRO 1, data 2", 2, {"zero_stage": 1}),
    ("ZeRO 2, data 2", 2, {"zero_stage": 2}),
    ("ZeRO 3, data 2", 2, {"zero_stage": 3}),
    ("ZeRO 2, data 2, offload", 2, {"zero_stage": 2, "offload_optimizer": True}),
    ("ZeRO 3, data 2, offload", 2, {"zero_stage": 3, "offload_optimizer": True}),
    ("tensor 2", 2, {"zero_stage": 0, "tensor_size": 2}),
)


@dataclass(frozen=True)
class Norms:
    """What one training step measured.

    Attributes:
        gradient: the engine's norm of the gradient.
        parameters: the engine's norm of the initial weights.
        gradient_fp64: of the same gradient shards, each converted to fp64 as a whole.
        parameters_fp64: of the same weights, in the same way.
        elements: weights of the model.
    """

    gradient: float
    parameters: float
    gradient_fp64: float
    parameters_fp64: float
    elements: int


def case_of(name: str, ranks: int, parallel: dict[str, Any], elements: str) -> Case:
    """The layout as a training case with 4 samples a step."""
    model = SIZES[elements]
    return Case(name, ranks, parallel, model, global_batch_size=4, vocab_size=model["vocab_size"])


def measure(case: Case) -> Norms:
    """On each rank: one step."""
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover

    torch.set_num_threads(1)
    config, launch = case.config(), discover()
    layout = resolve_layout(config, launch.world_size)
    place = topology.start(launch, layout)
    engine = TrainEngine(config, place, objective_of(config))
    finisher = engine._gradients
    parameters = engine.parameter_norm()
    owned = [o for o in engine.zero.owned_ranges() if finisher.is_counted(o.parameter)]
    parameters_fp64 = _norm_fp64([o.flat.data[o.offset : o.offset + o.stop - o.start] for o in owned])
    seen: list[float] = []
    square_sum = finisher.local_square_sum

    def also_in_fp64(shards: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> torch.Tensor:
        seen.append(_norm_fp64([g for p, g in shards if finisher.is_counted(p)]))
        return square_sum(shards)

    finisher.local_square_sum = also_in_fp64  # type: ignore[method-assign]
    result = engine.train_batch(case.micro_batches(0, place.data_rank, layout.data), step=0, learning_rate=1e-3)
    return Norms(result.grad_norm, parameters, seen[0], parameters_fp64, config.model.num_parameters())


def _norm_fp64(tensors: list[torch.Tensor]) -> float:
    total = sum((t.double().square().sum() for t in tensors), torch.zeros((), dtype=torch.float64))
    dist.all_reduce(total)
    return float(total.sqrt())


def table(elements: str, layouts: tuple[tuple[str, int, dict[str, Any]], ...] = LAYOUTS) -> dict[str, Norms]:
    """The norms of each layout by name; all ranks must agree exactly."""
    found: dict[str, Norms] = {}
    for name, ranks, parallel in layouts:
        case = case_of(name, ranks, parallel, elements)
        first, *others = run_ranks(measure, ranks, case, process_group=False, preload=PRELOAD, timeout_s=1800)
        assert all(other == first for other in others), f"{name}: ranks report different norms"
        found[name] = first
    return found


def difference(norms: Norms, single: Norms) -> float:
    """The larger relative difference of the two norms to the single process' in fp64."""
    gradient = abs(norms.gradient / single.gradient_fp64 - 1)
    return max(gradient, abs(norms.parameters / single.parameters_fp64 - 1))


def main() -> int:
    """Print the table; 1 if a row is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", nargs="+", default=["40M", "200M"], choices=list(SIZES))
    largest = 0.0
    for elements in parser.parse_args().elements:
        single: Norms | None = None
        for layout in LAYOUTS:
            started_s = time.perf_counter()
            norms = table(elements, (layout,))[layout[0]]
            if single is None:
                single = norms
                print(f"{norms.elements:,} elements; fp64: {norms.gradient_fp64:.9f}, {norms.parameters_fp64:.7f}")
                print(f"{'layout':24} {'gradient':>12} {'parameters':>13} {'difference':>10} {'seconds':>8}")
            apart = difference(norms, single)
            largest = max(largest, apart)
            seconds = time.perf_counter() - started_s
            figures = f"{norms.gradient:12.9f} {norms.parameters:13.7f} {apart:10.1e} {seconds:8.1f}"
            print(f"{layout[0]:24} {figures} {'OVER' if apart > LIMIT else ''}", flush=True)
    print(json.dumps({"largest_difference": largest, "all_within_limit": largest <= LIMIT}))
    return int(largest > LIMIT)


if __name__ == "__main__":
    # Ranks import the functions that they run by the module's name.
    from tests.pretrain.engine import norm_table

    sys.exit(norm_table.main())
