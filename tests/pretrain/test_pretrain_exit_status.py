"""What a process ends with when training fails after checkpoints were saved; a test in the process cannot see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import ExitStatus
from configs.load import to_yaml
from tests.pretrain.tiny_run import make_corpus, tiny_config

ROOT = Path(__file__).parents[2]


def train(directory: Path, output_dir: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    corpus = directory / "made/corpus"
    if not corpus.is_dir():
        make_corpus(directory / "made")
    config = directory / "run.yaml"
    config.write_text(to_yaml(tiny_config(output_dir, corpus, **changes)))
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    argv = [sys.executable, "pretrain/main.py", "--config", str(config)]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_diverged_run_ends_with_its_status(tmp_path: Path) -> None:
    changes = {"optimizer__lr": 1e30, "optimizer__warmup": "0 steps", "training__max_skipped_steps": 2}
    for number in range(2):  # a race decided it
        done = train(tmp_path, tmp_path / f"run{number}", checkpoint__interval="1 steps", **changes)
        assert done.returncode == ExitStatus.DIVERGED, done.stderr[-2000:]
        assert done.stderr.count("error: ") == 1 and "diverged" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_in_training_ends_with_its_status(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], check=True)
    often = {"checkpoint__interval": "1 steps", "checkpoint__keep_last": 1, "checkpoint__keep_every": "1 steps"}
    try:
        done = train(tmp_path, small / "run", **often, training__duration="40 steps")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert done.returncode == ExitStatus.USER_ERROR, done.stderr[-2000:]
    assert done.stderr.count("error: ") == 1 and "free" in done.stderr
    assert "step 1/40" in done.stdout, "it was refused before it trained"


@pytest.mark.slow
@pytest.mark.parametrize("connected", [True, False])
def test_a_shutdown_that_aborts_does_not_cost_the_status_of_a_connected_process(connected: bool) -> None:
    code = """if True:
        import atexit, os, sys
        from pretrain.parallel.launch import end_process
        if sys.argv[1] == "True":
            import torch.distributed as dist
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        atexit.register(os.abort)
        print("told")
        end_process(3)
    """
    done = subprocess.run([sys.executable, "-c", code, str(connected)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "told\n" or not connected
    assert done.returncode == (3 if connected else -6)
