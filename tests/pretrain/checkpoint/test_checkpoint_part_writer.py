"""The copy of the state in a thread of ours leaves no threads behind that training would wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SAVE = """if True:
    import os, sys
    from pathlib import Path
    import torch
    from pretrain.checkpoint.state_shards import StateShard
    from pretrain.checkpoint.writer import CheckpointWriter
    from pretrain.parallel.sharded_shape import ShardedShape

    rows = 1 << 22  # enough for torch to use several threads
    states = {name: torch.rand(rows).add_(1) for name in ("master", "exp_avg", "exp_avg_sq")}
    writer = CheckpointWriter(Path(sys.argv[1]))
    before = len(os.listdir("/proc/self/task"))
    writer.save(1, [StateShard(ShardedShape("w", (rows,), (rows,)), 0, rows, states)], {"step": 1})
    writer.wait_all_ranks()
    print(before, len(os.listdir("/proc/self/task")))
    writer.close()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_a_save_starts_no_threads_of_openmp(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    command = [sys.executable, "-c", SAVE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    assert after == before
