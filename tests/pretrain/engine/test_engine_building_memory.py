"""No rank holds more than its part of a model at ZeRO-3, neither while it builds it nor while it loads a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.building_memory import peaks, run_config
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD

SIZES = {"hidden": 512, "layers": 6, "vocabulary": 8192}


@pytest.mark.slow
def test_the_peak_is_flat_in_the_whole_and_falls_per_rank(tmp_path: Path) -> None:
    weights = run_config(**SIZES, ranks=1).model.num_parameters()
    found = {}
    for ranks in (1, 2, 4):
        config = run_config(**SIZES, ranks=ranks, zero_stage=3)
        found[ranks] = run_ranks(peaks, ranks, config, tmp_path, process_group=False, preload=PRELOAD, timeout_s=300)
    for action in ("build", "load"):
        whole = {ranks: sum(peak[action] for peak in of_ranks) for ranks, of_ranks in found.items()}
        # Weights, fp32 weights, gradients and two moments: 20 bytes a weight, all in host memory here.
        assert 19 * weights < whole[1] < 24 * weights
        # What does not depend on the model's size: so many bytes for each rank.
        fixed = 40_000_000
        for ranks, of_ranks in found.items():
            assert whole[ranks] < 24 * weights + ranks * fixed
            assert max(peak[action] for peak in of_ranks) < 24 * weights / ranks + fixed
