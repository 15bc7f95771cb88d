"""Classification of what parts there are: without a test part, from a table of Chinese texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from finetune.run_task import run_task, show
from tests.finetune.finetune_texts import classify_config, prepare

SHORT: dict[str, Any] = {"training__duration": "1 steps", "baselines": []}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    prepare(root)
    return root


@pytest.mark.slow
def test_without_a_test_part_the_validation_part_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = classify_config(root, "no-test", **SHORT, data__split=[0.8, 0.2, 0.0])
    found = run_task(config, lambda line: None)
    assert found is not None and found.test is found.systems["validation"] and "test" not in found.record
    show(found, config)
    out = capsys.readouterr().out
    assert "on the validation part" in out and "confusion-validation.png" in out
    written = {path.name for path in (root / "no-test").iterdir()}
    assert {"predictions-validation.jsonl", "confusion-validation.png"} <= written
    assert not {"predictions-test.jsonl", "confusion-test.png"} & written
    run_task(config.model_copy(update={"overwrite": True}), lambda line: None)


def test_chinese_texts_from_a_table(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with (root / "films.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind"])
        writer.writerows([f"第{n}部电影{'我很喜欢' if n % 2 else '真的难看'}", ("好", "坏")[n % 2]] for n in range(20))
        writer.writerow([" ", "好"])
    changes = SHORT | {"baselines": ["majority", "tfidf"], "data__train_texts": [str(root / "films.csv")]}
    config = classify_config(root, "films", **changes)
    lines: list[str] = []
    found = run_task(config, lines.append)
    assert found is not None and found.record["labels"] == ["坏", "好"] and found.record["empty"] == 1
    assert {part: sum(counts.values()) for part, counts in found.record["examples"].items()} == {
        "train": 14, "validation": 3, "test": 3,
    }  # fmt: skip
    assert "left out    1 without text, the first films.csv@22" in lines
    assert found.test["TF-IDF + logistic regression"]["macro_f1"] == 1
    show(found, config)
    shown = capsys.readouterr().out
    assert "TF-IDF + logistic regression (characters, 1 to 3)" in shown
    right = [line for line in shown.splitlines() if "│ 好" in line]
    assert len(right) == 2 and "[" not in "".join(right), "the tables of figures and of confusions hold no markup"
    monkeypatch.setattr(found.task, "tables", lambda *given: ["try baselines=[scratch], data.split=[1, 0, 0]"])
    show(found, config)
    assert "try baselines=[scratch], data.split=[1, 0, 0]\n" in capsys.readouterr().out, "brackets are no markup"
    assert json.loads((root / "films" / "classify.json").read_text())["test"]["TF-IDF + logistic regression"]
