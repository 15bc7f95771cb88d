"""Several seeds in one command: what is told of them, and that a stop between or within them costs nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from configs.errors import CheckpointError, DataError, ExitStatus
from finetune.cli import TASK_COMMANDS
from finetune.seeds import mean_and_interval, run_seeds
from finetune.tasks.classify_config import ClassifyConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import classify_config, prepare

SEEDS: dict[str, Any] = {
    "seeds": [3, 1],
    "baselines": ["majority"],
    "training__duration": "4 steps",
    "training__evaluate_every": "2 steps",
    "training__save_every": "1 steps",
    "training__tensorboard": False,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seeds")
    prepare(root)
    return root


def probabilities(folder: Path) -> dict[str, dict[str, float]]:
    lines = (folder / "predictions-test.jsonl").read_text().splitlines()
    return {row["id"]: row["probabilities"] for row in map(json.loads, lines)}


def seeds_on_rank(root: str, name: str) -> list[float] | None:
    result = run_seeds(classify_config(Path(root), name, **SEEDS), lambda line: None)
    return None if result is None else result.parts["test"]["fine-tuned"]["loss"]["values"]


@pytest.mark.slow
def test_seeds_go_on_and_are_told_together(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if "seed 1" in said and line.startswith("  validation at step 2"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        run_seeds(classify_config(root, "out", **SEEDS), log)
    assert end.value.code == ExitStatus.INTERRUPTED and not (root / "out").exists()
    with pytest.raises(CheckpointError, match=r"(?s)made with other settings.*optimizer\.lr +0\.005 +0\.001"):
        run_seeds(classify_config(root, "out", **SEEDS, optimizer__lr=1e-3), log)
    said.clear()
    given = classify_config(root, "out", **SEEDS).model_dump(mode="json")
    (root / "given.yaml").write_text(json.dumps(given))
    TASK_COMMANDS["classify"]([], config=[str(root / "given.yaml")])
    out = capsys.readouterr().out
    assert "seed 3: its result is complete\nseed 1\n" in out and "resumed at step 3/4" in out
    assert "2 seeds: mean and its 95 % interval" in out and "ensemble" in out
    assert {path.name for path in (root / "out").iterdir()} == {"seed-1", "seed-3", "seeds.json", "recipe.yaml"}
    assert not (root / "out.training").exists()

    record = json.loads((root / "out" / "seeds.json").read_text())
    runs = [json.loads((root / "out" / f"seed-{seed}" / "classify.json").read_text()) for seed in (3, 1)]
    losses = [run["test"]["fine-tuned"]["loss"] for run in runs]
    found = record["figures"]["test"]["fine-tuned"]["loss"]
    assert found["values"] == losses and losses[0] != losses[1]
    assert found["mean"] == pytest.approx(np.mean(losses)) and found["low"] < found["mean"] < found["high"]
    assert len(record["figures"]["test"]["most frequent label"]["accuracy"]["values"]) == 1

    one, other = (probabilities(root / "out" / f"seed-{seed}") for seed in (3, 1))
    assert one.keys() == other.keys(), "all seeds are measured on one split"
    gold = [json.loads(line) for line in (root / "out" / "seed-1" / "predictions-test.jsonl").read_text().splitlines()]
    right = [-np.log((one[row["id"]][row["gold"]] + other[row["id"]][row["gold"]]) / 2) for row in gold]
    assert record["figures"]["test"]["ensemble"]["loss"]["mean"] == pytest.approx(np.mean(right), abs=1e-4)

    with pytest.raises(DataError, match="exists already"):
        run_seeds(classify_config(root, "out", **SEEDS), log)
    two = run_ranks(seeds_on_rank, 2, str(root), "two", process_group=False, preload=("deepspeed", "transformers"))
    assert two[0] == pytest.approx(losses, rel=1e-4) and two[1] is None


def test_the_interval_is_students() -> None:
    found = mean_and_interval([1.0, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert mean_and_interval([0.5]) == {"mean": 0.5, "low": None, "high": None, "values": [0.5]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"seeds": [1, 1]}, "expected different ones"), ({"seeds": [1], "training__seed": 2}, "expected one of them")],
)
def test_contradictions_are_refused(root: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        classify_config(root, "wrong", **changes)
    assert ClassifyConfig.model_fields["seeds"].default == []
