"""A classifier of a pretraining run, made on a GPU by the command that users type; also tried on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.entry_process import run_entry
from tests.finetune.finetune_texts import prepare
from tests.pretrain.engine.layout_cases import SESSION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with rotary positions, and labelled texts."""
    root = tmp_path_factory.mktemp("gpu")
    prepare(root)
    return root


def check_classify(device: str, precision: str, folder: Path) -> None:
    """`classify` learns labels that a few words tell, and measures the model that it saved."""
    output = folder / f"{device}-{precision}"
    settings = [
        "data.train_texts=texts.jsonl",
        "data.label_field=kind",
        "data.split=[0.7,0.15,0.15]",
        "training.duration=6 epochs",
        "training.batch_size=16",
        f"training.device={device}",
        f"training.precision={precision}",
        "training.zero_stage=1",
        "optimizer.lr=5e-3",
    ]
    command = ["-m", "finetune", "classify", "--model", "run", "--output", str(output), *settings]
    preload = (*SESSION, "transformers")
    done = run_entry(command, cwd=folder, preload=preload, environment={"HF_HUB_OFFLINE": "1"}, timeout_s=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    record = json.loads((output / "classify.json").read_text())
    assert record["ran"]["device"] == ("cpu" if device == "cpu" else "cuda")
    assert record["test"]["fine-tuned"]["accuracy"] > 0.8
    lines = (output / "predictions-test.jsonl").read_text().splitlines()
    assert len(lines) == record["test"]["fine-tuned"]["samples"]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_classifier_of_a_rotary_run_is_made_on_a_gpu(precision: str, folder: Path) -> None:
    check_classify("auto", precision, folder)


@pytest.mark.slow
def test_the_same_on_the_cpu(folder: Path) -> None:
    check_classify("cpu", "fp32", folder)
