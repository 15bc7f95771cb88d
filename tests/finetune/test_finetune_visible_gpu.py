"""The commands of fine-tuning on a machine that shows a GPU (`tests/cuda_stand_in`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.finetune.finetune_texts import prepare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with rotary positions, and labelled texts."""
    root = tmp_path_factory.mktemp("gpu")
    prepare(root)
    return root


def finetune(folder: Path, *arguments: str, **environment: str) -> str:
    path = f"{ROOT / 'tests' / 'cuda_stand_in'}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "finetune", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
        | {"PYTHONPATH": path}
        | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_an_export_beside_a_gpu_is_the_one_without(folder: Path) -> None:
    settings = ("export", "--model", "run", "sequences=2", "--output")
    said = finetune(folder, *settings, "beside")
    finetune(folder, *settings, "alone", CUDA_VISIBLE_DEVICES="")
    assert "logits equal" in said
    beside, alone = (load_file(folder / name / "model.safetensors") for name in ("beside", "alone"))
    assert beside.keys() == alone.keys()
    assert all(beside[name].equal(alone[name]) for name in alone)
    records = [json.loads((folder / name / "export.json").read_text())["logits"] for name in ("beside", "alone")]
    assert records[0] == records[1]


@pytest.mark.slow
def test_a_task_trains_on_the_cpu_beside_a_gpu(folder: Path) -> None:
    settings = [
        "data.train_texts=texts.jsonl",
        "data.label_field=kind",
        "training.duration=3 steps",
        "training.device=cpu",
    ]
    said = finetune(folder, "classify", "--model", "run", "--output", "classifier", *settings)
    assert "fine-tuned" in said
    assert json.loads((folder / "classifier" / "classify.json").read_text())["steps"] == 3
