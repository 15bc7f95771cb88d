"""Every rank makes its own part of the same model, and at ZeRO-3 holds no more than it, nor while it loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.building_memory import peaks, run_config
from pretrain.checkpoint.state_shards import as_matrix, rectangles
from pretrain.models.initial_values import InitialValues
from pretrain.models.initialization import sharded_shape
from pretrain.parallel.layout import Layout
from pretrain.parallel.state_memory import state_memory
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import CASES, PRELOAD, Case
from tests.pretrain.engine.test_engine_steps import build

SIZES = {"hidden": 512, "layers": 6, "vocabulary": 8192}


def parts_of_the_whole(case: Case) -> int:
    """On each rank: compare what it holds of each parameter with the whole one; how many elements were compared."""
    engine, _ = build(case)
    specs = {spec.name: spec for spec in case.model_config().parameters()}
    compared = 0
    for shard in engine.shards():
        spec = specs[shard.shape.name]
        whole = torch.empty(spec.elements)
        InitialValues(case.config().seed)(spec, sharded_shape(spec, 0, 1), 0, spec.elements, whole)
        matrix = whole.view(as_matrix(spec.shape))
        for row0, row1, column0, column1, offset in rectangles(shard.shape, shard.start, shard.stop).tolist():
            expected = matrix[row0:row1, column0:column1].reshape(-1)
            assert torch.equal(shard.tensors["master"][offset : offset + len(expected)], expected), spec.name
            compared += len(expected)
    return compared


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("zero 2, tensor 2, sequence, data 2, gpt2", marks=pytest.mark.slow),
        pytest.param("zero 3, tensor 2, pipeline 2, small weights whole", marks=pytest.mark.slow),
        pytest.param("zero 1, pipeline 2, data 2", marks=pytest.mark.slow),
        "zero 3, data 2",
    ],
)
def test_every_rank_holds_its_part_of_the_same_initial_weights(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    compared = run_ranks(parts_of_the_whole, case.ranks, case, process_group=False, preload=PRELOAD)
    assert sum(compared) >= case.model_config().num_parameters()


@pytest.mark.slow
def test_the_peak_of_a_rank_falls_with_the_number_of_ranks(tmp_path: Path) -> None:
    weights = run_config(**SIZES, ranks=1).model.num_parameters()
    found = {}
    for ranks in (1, 2, 4):
        config = run_config(**SIZES, ranks=ranks, zero_stage=3)
        found[ranks] = run_ranks(peaks, ranks, config, tmp_path, process_group=False, preload=PRELOAD, timeout_s=300)
    # On a CPU all of it is host memory.
    assert state_memory(config, Layout(), weights).device_bytes == 20 * weights
    for action, bytes_per_weight in (("weights", 4), ("engine", 20), ("load", 20)):
        of_one = found[1][0][action]
        assert 0.95 * bytes_per_weight * weights < of_one
        # Beside that, what does not depend on the model's size.
        fixed = 25_000_000
        for ranks, of_ranks in found.items():
            part = 1.1 * bytes_per_weight * weights / ranks
            assert max(peak[action] for peak in of_ranks) < part + fixed, (action, ranks, of_ranks)
