"""The same run under every launcher has the same losses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.load import to_yaml
from tests.pretrain.tiny_run import make_corpus, tiny_config, train_records

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "python": [sys.executable],
    "deepspeed": [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", "{port}"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "{port}"],
    "mpirun": [str(BIN / "mpirun"), "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def free_port() -> int:
    from pretrain.parallel.launch import free_port

    return free_port()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_run_under_launcher(launcher: str, corpus: Path, tmp_path: Path) -> None:
    single = {"model__hidden_dropout": 0, "model__attention_dropout": 0, "training__duration": "3 steps"}
    layout = {} if launcher == "python" else {"parallel__tensor_size": 2, "parallel__zero_stage": 3}
    recipe = tmp_path / "run.yaml"
    recipe.write_text(to_yaml(tiny_config(tmp_path / "run", corpus, **single, **layout)))
    command = [part.replace("{port}", str(free_port())) for part in LAUNCHERS[launcher]]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RANK", "WORLD_", "LOCAL_", "MASTER_"))}
    done = subprocess.run(
        [*command, "pretrain/main.py", "--config", str(recipe)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"by {launcher} on cpu" in done.stdout
    losses = [record["loss"] for record in train_records(tmp_path / "run")]
    shared = corpus.parent / "losses.txt"
    if not shared.exists():
        shared.write_text(" ".join(map(str, losses)))
    assert losses == pytest.approx([float(loss) for loss in shared.read_text().split()], rel=1e-5)


def test_every_launcher_is_installed_with_the_project() -> None:
    assert all(shutil.which(command[0]) for command in LAUNCHERS.values())
