"""Whole runs on a GPU: a plain start, a stop and a resume, an export; each also tried on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.load import to_yaml
from tests.entry_process import run_entry
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, tiny_config, train_records

ROOT = Path(__file__).resolve().parents[2]
NO_DROPOUT = {"model__hidden_dropout": 0, "model__attention_dropout": 0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def python(*arguments: str, status: int = 0) -> str:
    done = run_entry(arguments, cwd=ROOT, preload=SESSION, timeout_s=240)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def check_run(device: str, name: str, precision: str, corpus: Path, folder: Path) -> None:
    """A run by plain `python` (one process, whose store is in its own memory), stopped, resumed, exported, read."""
    changes = {**NO_DROPOUT, "training__device": device, "training__precision": precision, "parallel__zero_stage": 2}
    runs = {}
    for run in ("whole", "resumed"):
        runs[run] = folder / f"{run}.yaml"
        runs[run].write_text(to_yaml(tiny_config(folder / run, corpus, **changes)))
    said = python("pretrain/main.py", "--config", str(runs["whole"]))
    assert f"by python on {name}" in said
    assert ("CPU bridge active" in said) is (name == "cpu")
    python("pretrain/main.py", "--config", str(runs["resumed"]), "training.session_limit=5 steps", status=75)
    assert "resumed at step 5" in python("pretrain/main.py", "--config", str(runs["resumed"]))
    whole, resumed = train_records(folder / "whole"), train_records(folder / "resumed")
    assert [record["step"] for record in resumed] == [record["step"] for record in whole]
    for record, expected in zip(resumed, whole, strict=True):
        # Kernels of a GPU may add in another order from run to run.
        assert record["loss"] == pytest.approx(expected["loss"], rel=1e-6 if name == "cpu" else 1e-3)
    export = folder / "export"
    said = python("-m", "finetune", "export", "--model", str(folder / "resumed"), "--output", str(export))
    assert "logits equal" in said
    assert python("-m", "finetune", "generate", "--model", str(export), "--prompt", "the", "--max-new-tokens", "4")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_start_resume_and_export_on_a_gpu(precision: str, corpus: Path, tmp_path: Path) -> None:
    check_run("auto", torch.cuda.get_device_name(), precision, corpus, tmp_path)


@pytest.mark.slow
def test_the_same_on_the_cpu(corpus: Path, tmp_path: Path) -> None:
    check_run("cpu", "cpu", "fp32", corpus, tmp_path)
