"""Predictions of saved models: those of the training's own file, in the order of the input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError, DataError, UserError
from finetune.predict_command import predict_command
from finetune.run_task import run_task
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from tests.finetune.finetune_texts import classify_config, prepare


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("predict")
    prepare(root)
    run_task(classify_config(root, "classifier", training__duration="20 steps", baselines=[]), lambda line: None)
    return root


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open()]


def test_a_classifier_says_what_its_training_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_command(root / "classifier", [str(root / "texts.jsonl")], tmp_path / "out.jsonl", batch_size=7)
    found = lines(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in lines(root / "texts.jsonl")]
    assert "(240)" in capsys.readouterr().out
    told = {row["id"]: row for row in lines(root / "classifier" / "predictions-test.jsonl")}
    same = [row for row in found if row["id"] in told]
    assert len(same) == len(told) > 20
    for row in same:
        assert row["predicted"] == told[row["id"]]["predicted"] and set(row) == {"id", "predicted", "probabilities"}
        assert row["probabilities"] == pytest.approx(told[row["id"]]["probabilities"], abs=2e-6)
    # Plain text, a text in each line, as a table.
    (tmp_path / "lines.txt").write_text("it raises\n\nopens path\n")
    predict_command(root / "classifier", [str(tmp_path / "lines.txt")], tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == 2 and rows[1]["predicted"] in ("error", "file", "value")
    assert sum(float(rows[0][f"probabilities.{label}"]) for label in ("error", "file", "value")) == pytest.approx(1)


def test_bad_records_are_counted_or_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "it raises"}\n{"text": ""}\nno json\n{"other": 1}\n')
    output = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match="3 of 4 records cannot be used"):
        predict_command(root / "classifier", [str(tmp_path / "in.jsonl")], output)
    assert not output.exists()
    predict_command(root / "classifier", [str(tmp_path / "in.jsonl")], output, max_bad_share=0.8)
    assert len(lines(output)) == 1 and "left out     3 bad records" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="exists already"):
        predict_command(root / "classifier", [str(tmp_path / "in.jsonl")], output)


def test_files_are_read_as_the_training_read_its_own(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "classifier", tmp_path / "model")
    recipe = (tmp_path / "model" / "recipe.yaml").read_text()
    told = recipe.replace("encoding: utf-8", "encoding: gb18030").replace("quoting: null", "quoting: none")
    assert told.count("gb18030") == told.count("quoting: none") == 1
    (tmp_path / "model" / "recipe.yaml").write_text(told)
    # Bytes that are no UTF-8, and a quote that nothing closes.
    (tmp_path / "in.tsv").write_text('id\ttext\n值\t"it raises an error\n2\topens path\n', "gb18030")
    predict_command(tmp_path / "model", [str(tmp_path / "in.tsv")], tmp_path / "out.jsonl")
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == ["值", "2"]
    asked = {"encoding": "GB18030", "quoting": "none"}
    predict_command(root / "classifier", [str(tmp_path / "in.tsv")], tmp_path / "asked.jsonl", **asked)  # type: ignore[arg-type]
    assert lines(tmp_path / "asked.jsonl") == lines(tmp_path / "out.jsonl")
    with pytest.raises(UserError):
        predict_command(root / "classifier", [str(tmp_path / "in.tsv")], tmp_path / "no.jsonl", quoting="double")
    with pytest.raises(ConfigError, match="--encoding"):
        predict_command(root / "classifier", [str(tmp_path / "in.tsv")], tmp_path / "no.jsonl", encoding="utf-99")


@pytest.mark.parametrize(
    ("model", "output", "named"),
    [
        ("run", "out.jsonl", "holds no recipe.yaml"),
        ("none", "out.jsonl", "does not exist"),
        ("classifier", "out.xlsx", "a file with the ending .jsonl or .csv"),
    ],
)
def test_what_is_no_saved_model_or_format_is_refused(
    root: Path, tmp_path: Path, model: str, output: str, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        predict_command(root / model, [str(root / "texts.jsonl")], tmp_path / output)


@pytest.mark.slow
def test_what_a_model_writes_is_what_its_training_wrote(root: Path, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "output": root / "writer",
        "model": root / "run",
        "prompt": "Kind of {source}: ",
        "data": {
            "train_texts": str(root / "texts.jsonl"),
            "source_field": "text",
            "target_field": "kind",
            "max_target_tokens": 10,
        },
        "generation": {"max_new_tokens": 6, "num_beams": 2},
        "training": {"duration": "10 steps"},
        "optimizer": {"lr": 5e-3},
    }
    run_task(Seq2SeqConfig.model_validate(fields), lambda line: None)
    predict_command(root / "writer", [str(root / "texts.jsonl")], tmp_path / "out.jsonl")
    found = {row["id"]: row["predicted"] for row in lines(tmp_path / "out.jsonl")}
    told = lines(root / "writer" / "predictions-test.jsonl")
    assert told and [found[row["id"]] for row in told] == [row["predicted"] for row in told]
