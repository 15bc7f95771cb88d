"""A search over ordinary runs: what it writes, that a kill costs nothing, that the test part is left alone."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError, DataError, ExitStatus
from configs.load import load_config
from finetune.cli import TASK_COMMANDS
from finetune.search.study import run_search
from finetune.tasks.classify_config import ClassifyConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import classify_config, prepare

SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "training.batch_size": [8, 16],
    "method.name": ["full", "lora"],
    "method.r": {"low": 2, "high": 4},
}
SEARCH: dict[str, Any] = {
    "search": {"space": SPACE, "trials": 4, "seed": 2},
    "training__duration": "3 steps",
    "training__save_every": "1 steps",
    "optimizer__warmup": "1 steps",
    "data__max_eval_samples": 20,
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    prepare(root)
    return root


def trials(folder: Path) -> list[dict[str, Any]]:
    record = json.loads((folder / "search.json").read_text())
    return [{key: value for key, value in row.items() if key != "training_s"} for row in record["trials"]]


def search_on_rank(root: str, name: str) -> list[tuple[int, float | None]] | None:
    search = {**SEARCH["search"], "trials": 2}
    result = run_search(classify_config(Path(root), name, **{**SEARCH, "search": search}), lambda line: None)
    return None if result is None else [(outcome.number, outcome.figure) for outcome in result.outcomes]


def test_a_search_goes_on_after_a_stop_as_if_nothing_had_been(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if any(text.startswith("trial 3/4") for text in said) and line.startswith("step     1/3"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        run_search(classify_config(root, "out", **SEARCH), log)
    assert end.value.code == ExitStatus.INTERRUPTED and not (root / "out").exists()
    with pytest.raises(CheckpointError, match=r"(?s)trial of other settings.*data\.max_eval_samples"):
        run_search(classify_config(root, "out", **{**SEARCH, "data__max_eval_samples": 30}), log)
    given = classify_config(root, "out", **SEARCH).model_dump(mode="json")
    (root / "given.yaml").write_text(json.dumps(given))
    capsys.readouterr()
    TASK_COMMANDS["classify"]([], config=[str(root / "given.yaml")])
    out = capsys.readouterr().out
    assert out.count("its result is complete") == 2 and "resumed at step 2/3" in out
    assert "4 trials by the validation macro_f1" in out and "finetune run --config" in out
    assert not (root / "out.training").exists()

    undisturbed = run_search(classify_config(root, "again", **SEARCH), lambda line: None)
    assert undisturbed is not None and trials(root / "out") == trials(root / "again")
    found = trials(root / "out")
    assert [row["figure"] for row in found] == sorted((row["figure"] for row in found), reverse=True)
    assert len({json.dumps(row["values"]) for row in found}) == 4
    assert {row["values"]["method.name"] for row in found} == {"full", "lora"}
    assert all(("method.r" in row["values"]) == (row["values"]["method.name"] == "lora") for row in found)
    rows = list(csv.DictReader((root / "out" / "trials.csv").open()))
    assert [float(row["macro_f1"]) for row in rows] == [row["figure"] for row in found]
    assert (root / "out" / "tensorboard").is_dir()

    # Every trial is an ordinary run, but for the test part, which nothing was measured on.
    for row in found:
        trial = root / "out" / f"trial-{row['number']:04d}"
        record = json.loads((trial / "classify.json").read_text())
        assert "validation" in record and "test" not in record and (trial / "model.safetensors").is_file()
        assert not list(trial.glob("*-test.*"))
    best = load_config(ClassifyConfig, root / "out" / "best.yaml", [])
    assert best.optimizer.lr == found[0]["values"]["optimizer.lr"] and best.search is None
    assert best.baselines == classify_config(root, "x").baselines and best.output == root / "out-best"
    with pytest.raises(DataError, match="exists already"):
        run_search(classify_config(root, "out", **SEARCH), log)


def test_two_processes_find_what_one_finds(root: Path) -> None:
    one = search_on_rank(str(root), "one")
    two = run_ranks(search_on_rank, 2, str(root), "two", process_group=False, preload=("deepspeed", "transformers"))
    assert two == [one, None]


def test_what_cannot_be_trained_is_told_and_the_search_goes_on(root: Path) -> None:
    space = {"optimizer.lr": [1e-3, 1e37], "method.name": ["full", "prompt"]}
    changes = {**SEARCH, "search": {"space": space, "sampler": "grid"}, "optimizer__warmup": "0 steps"}
    result = run_search(classify_config(root, "grid", **changes), lambda line: None)
    assert result is not None
    states = {(o.values["optimizer.lr"], o.values["method.name"]): o.state for o in result.outcomes}
    assert states == {
        (1e-3, "full"): "complete",
        (1e37, "full"): "diverged",
        (1e-3, "prompt"): "refused",
        (1e37, "prompt"): "refused",
    }
    assert all(outcome.reason for outcome in result.outcomes if outcome.state != "complete")
    changes["search"] = {"space": {"method.name": ["prompt"]}}
    with pytest.raises(DataError, match="no trial came to its end"):
        run_search(classify_config(root, "none", **changes), lambda line: None)
