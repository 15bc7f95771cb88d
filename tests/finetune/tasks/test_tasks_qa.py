"""Question answering from a checkpoint to figures, predictions and a directory that transformers loads."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer
from finetune.answering import answer_command
from finetune.run_task import TaskResult, run_task, show
from pretrain.models.encoder.bert_config import BertConfig
from tests.finetune.finetune_questions import qa_config, squad, write_squad
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tok", control_symbols=symbols)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("qa")
    model = BertConfig(**SIZES, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    write_run(root / "run", model, tokenizer)  # type: ignore[arg-type]
    write_squad(root / "squad.json")
    return root


@pytest.fixture(scope="module")
def result(root: Path) -> TaskResult:
    found = run_task(qa_config(root, "answerer"), lambda line: None)
    assert found is not None
    return found


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]


def contexts() -> dict[str, str]:
    return {p["qas"][0]["id"]: p["context"] for p in squad()["data"][0]["paragraphs"]}


def test_it_learns(result: TaskResult, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = result.test["fine-tuned"]
    assert figures["f1"] > 0.7 and figures["f1_interval"][0] <= figures["f1"] <= figures["f1_interval"][1]
    assert {"answerable_f1", "no_answer_accuracy", "exact", "loss"} <= set(figures)
    losses = [row["loss"] for row in result.record["history"] if "loss" in row]
    assert losses[-1] < 0.5 * losses[0] and result.record["unanswered"]["train"] > 20
    known = contexts()
    for row in predictions(root / "answerer"):
        if row["predicted"]:
            assert known[row["id"]][row["start"] : row["end"]] == row["predicted"]
    show(result, qa_config(root, "answerer"))
    out = capsys.readouterr().out
    assert "F1 counts words" in out and "python -m finetune answer --model" in out


def test_transformers_alone_finds_the_answers(result: TaskResult, root: Path) -> None:
    """By transformers' tokenizer of pairs and class, and a search over the tokens of the context."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    folder = root / "answerer"
    model, codec = AutoModelForQuestionAnswering.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "BertForQuestionAnswering"
    known, compared = contexts(), 0
    for row in predictions(folder):
        given = codec(row["question"], known[row["id"]], return_tensors="pt")
        if given.input_ids.shape[1] > 40:
            continue  # read in windows
        assert given.token_type_ids.sum() > 0
        with torch.no_grad():
            output = model(**given)
        begin, end = output.start_logits[0], output.end_logits[0]
        assert float(begin[0] + end[0]) == pytest.approx(row["no_answer_score"], abs=1e-3)
        if row["predicted"]:
            places = [n for n, sequence in enumerate(given.sequence_ids(0)) if sequence == 1]
            best = max(float(begin[a] + end[b]) for a in places for b in places if a <= b)
            assert row["score"] <= best + 1e-3
            compared += abs(row["score"] - best) < 1e-3
    assert compared > 5


def test_the_printed_command_gives_the_same_answers(
    result: TaskResult, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = contexts()
    for row in predictions(root / "answerer")[:6]:
        answer_command(root / "answerer", [row["question"]], known[row["id"]])
        told = json.loads(capsys.readouterr().out)
        assert {key: row[key] for key in ("question", "predicted", "start", "end")}.items() <= told.items()
        assert told["score"] == pytest.approx(row["score"], abs=1e-4)
    with pytest.raises(DataError, match=r"holds no qa\.json"):
        answer_command(root / "run", ["who?"], "a text")


def test_predict_answers_files_as_the_training_did(root: Path, result: TaskResult, tmp_path: Path) -> None:
    from finetune.predict_command import predict_command

    told = {row["id"]: row for row in predictions(root / "answerer")}
    predict_command(root / "answerer", [str(root / "squad.json")], tmp_path / "out.jsonl", batch_size=7)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == [f"q{number}" for number in range(160)]
    same = [row for row in found if row["id"] in told]
    assert len(same) == len(told) and "gold" not in same[0]
    for row in same:
        assert all(row[key] == told[row["id"]][key] for key in ("predicted", "start", "end"))
        assert row["no_answer_score"] == pytest.approx(told[row["id"]]["no_answer_score"], abs=1e-4)
    known = contexts()
    records = [{"question": row["question"], "text": known[row["id"]]} for row in found[:9]]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, [*records, {"text": "no question"}])))
    predict_command(
        root / "answerer", [str(tmp_path / "in.jsonl")], tmp_path / "out.csv", text_field="text", max_bad_share=0.1
    )
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["predicted"] for row in rows] == [row["predicted"] for row in found[:9]]


def test_from_a_decoder_whose_class_calls_its_body_otherwise(
    root: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    from finetune.pretrained import read_pretrained

    write_run(root / "gpt", llama(tokenizer), tokenizer)
    changes = {"training__duration": "1 steps", "optimizer__lr": 1e-12, "optimizer__warmup": "0 steps"}
    assert run_task(qa_config(root, "decoder", model=root / "gpt", **changes), lambda line: None)
    assert "reads from left to right" in capsys.readouterr().err
    saved, pretrained = load_file(root / "decoder" / "model.safetensors"), read_pretrained(root / "gpt").tensors
    for name, tensor in pretrained.items():
        if name.startswith("model."):
            assert torch.allclose(saved[name.replace("model.", "transformer.", 1)], tensor, atol=1e-6), name
