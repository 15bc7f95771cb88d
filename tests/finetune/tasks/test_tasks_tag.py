"""Tagging from a checkpoint to figures, predictions and a directory that transformers' pipeline uses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer
from finetune.predict_command import predict_command
from finetune.run_task import TaskResult, run_task, show
from finetune.tasks.tag_predictions import WordPredictions, mean_words
from pretrain.models.encoder.bert_config import BertConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tags import tag_config, tag_on_rank, tagged, write_conll
from tests.finetune.finetune_tokenizers import train_tokenizer

SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64}
SHORT: dict[str, Any] = {"training__duration": "1 steps", "baselines": []}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tok", control_symbols=symbols)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("tag")
    model = BertConfig(**SIZES, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    write_run(root / "run", model, tokenizer)  # type: ignore[arg-type]
    write_conll(root / "texts.conll", tagged())
    return root


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(root: Path, lines: list[str]) -> TaskResult:
    # Windows of at most 10 tokens of a text: the longer texts have several.
    found = run_task(tag_config(root, "tagger", data__max_tokens=12, data__stride=4), lines.append)
    assert found is not None
    return found


def predictions(folder: Path, part: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"predictions-{part}.jsonl").read_text().splitlines()]


def test_it_learns_entities_and_says_what_ran(
    result: TaskResult, lines: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = result.test["fine-tuned"]
    assert figures["micro_f1"] > 0.8 and set(figures["labels"]) == {"LOC", "PER"}
    low, high = figures["micro_f1_interval"]
    assert low <= figures["micro_f1"] <= high and low > 0.5
    assert result.record["labels"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert result.record["scheme"] == {"train": "iob2"} and result.record["ran"]["engine"] == "DeepSpeedEngine"
    assert any("tokens a text, " in line and " 0 in windows" not in line for line in lines)
    best = max(row["validation_micro_f1"] for row in result.record["history"] if "validation_micro_f1" in row)
    assert result.record["validation"]["fine-tuned"]["micro_f1"] == pytest.approx(best)
    # Every word of every text has a prediction, in whichever window it stands.
    for row in predictions(root / "tagger"):
        assert len(row["words"]) == len(row["predicted"]) == len(row["gold"]) and min(row["probabilities"]) > 0
        for entity in row["entities"]:
            assert " ".join(row["words"])[entity["start"] : entity["end"]] == entity["text"]
    show(result, tag_config(root, "tagger"))
    out = capsys.readouterr().out
    assert "all together (micro)" in out and "most frequent tag of each word" in out and "token-classification" in out


def test_the_pipeline_gives_the_predictions(result: TaskResult, root: Path) -> None:
    from transformers import pipeline

    tag = pipeline("token-classification", str(root / "tagger"), device="cpu", ignore_labels=[])
    assert type(tag.model).__name__ == "BertForTokenClassification"
    compared = 0
    for row in predictions(root / "tagger"):
        text = " ".join(row["words"])
        if len(tag.tokenizer(text).input_ids) > 12:
            continue
        starts, at = {}, 0
        for number, word in enumerate(row["words"]):
            starts[at] = number
            at += len(word) + 1
        found = {}
        for token in tag(text):
            # The offsets of a token may have the space before it.
            first = token["start"] + (text[token["start"]] == " ")
            if first in starts:
                found.setdefault(starts[first], token)
        assert [found[n]["entity"] for n in range(len(starts))] == row["predicted"]
        scores = [float(found[n]["score"]) for n in range(len(starts))]
        assert scores == pytest.approx(row["probabilities"], abs=1e-4)
        compared += 1
    assert compared > 5


@pytest.mark.slow
def test_chinese_by_characters(root: Path, tmp_path: Path) -> None:
    """A vocabulary that joins characters: each is encoded alone, and the pipeline is given the characters."""
    from transformers import pipeline

    chinese = ["今天张伟去了北京大学", "李娜住在上海", "张伟和李娜在北京"] * 8
    people = {"张伟": "PER", "李娜": "PER", "北京": "LOC", "上海": "LOC"}
    texts = []
    for number, text in enumerate(chinese):
        text = f"{text}{'零一二三四五六七八九十甲乙丙丁戊己庚辛壬癸子丑寅'[number]}"
        tags = ["O"] * len(text)
        for name, kind in people.items():
            if (at := text.find(name)) >= 0:
                tags[at : at + 2] = [f"B-{kind}", f"I-{kind}"]
        texts.append(list(zip(text, tags)))
    write_conll(tmp_path / "zh.conll", texts, "\t")
    model = tmp_path / "zh-run"
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>", "<|none|>"]
    tokenizer = train_tokenizer(tmp_path / "tok", control_symbols=symbols, user_defined_symbols=["北京", "张伟"])
    write_run(model, BertConfig(**SIZES, vocab_size=tokenizer.vocab_size, vocab_multiple=64), tokenizer)
    lines: list[str] = []
    config = tag_config(root, "zh", model=model, data__train_texts=str(tmp_path / "zh.conll"), **SHORT)
    found = run_task(config, lines.append)
    assert found is not None and found.record["words_encoded_alone"]["train"] > 5
    assert any("joins characters across words" in line for line in lines)
    command = found.task.next_command(root / "zh")
    assert command is not None and "is_split_into_words=True" in command
    tag = pipeline("token-classification", str(root / "zh"), device="cpu", ignore_labels=[])
    for row in predictions(root / "zh"):
        told = tag(row["words"], is_split_into_words=True, delimiter="")[0]
        first = {token["start"]: token for token in reversed(told)}
        assert [first[n]["entity"] for n in range(len(row["words"]))] == row["predicted"]
        expected = [float(first[n]["score"]) for n in range(len(row["words"]))]
        assert expected == pytest.approx(row["probabilities"], abs=1e-4)


@pytest.mark.slow
def test_a_decoder_is_warned_of(
    root: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Parts of speech, by a model that reads from left to right."""
    write_run(root / "gpt", llama(tokenizer), tokenizer)
    plain = [[(word, tag[:1]) for word, tag in text] for text in tagged(60)]
    write_conll(tmp_path / "pos.txt", plain, "\t")
    changes = SHORT | {"baselines": ["words"], "data__train_texts": str(tmp_path / "pos.txt")}
    found = run_task(tag_config(root, "decoder", model=root / "gpt", **changes), lambda line: None)
    assert found is not None and found.record["scheme"] == {"train": "none"}
    assert "reads a text from left to right" in capsys.readouterr().err
    assert json.loads((root / "decoder" / "config.json").read_text())["architectures"] == [
        "LlamaForTokenClassification"
    ]
    usual = found.test["most frequent tag of each word"]
    assert usual["accuracy"] == usual["micro_f1"] == 1 and usual["accuracy_interval"] == [1, 1]
    assert "entities" not in predictions(root / "decoder")[0]


@pytest.mark.slow
def test_two_processes_equal_one(root: Path) -> None:
    changes = {"baselines": [], "training__batch_size": 24, "training__duration": "6 steps", "data__max_tokens": 12,
               "data__stride": 4}  # fmt: skip
    records = []
    for world_size, stage in ((1, 0), (2, 3)):
        given = {**changes, "training__zero_stage": stage, "training__micro_batch_size": 4}
        told = run_ranks(
            tag_on_rank, world_size, str(root), f"ranks-{world_size}", given,
            process_group=False, preload=("deepspeed", "transformers"), timeout_s=300,
        )  # fmt: skip
        records.append(told[0])
    one, two = records
    assert two["ran"]["world_size"] == 2 and two["ran"]["optimizer"] == "DeepSpeedZeroOptimizer_Stage3"
    for mine, theirs in zip(two["history"], one["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert two["test"]["fine-tuned"]["labels"] == one["test"]["fine-tuned"]["labels"]


def predicted(folder: Path, content: str, path: Path, name: str, **options: Any) -> list[dict[str, Any]]:
    """What `predict` says of a file with this content."""
    (path / name).write_text(content, "utf-8")
    predict_command(folder, [str(path / name)], path / "out.jsonl", overwrite=True, **options)
    return [json.loads(line) for line in (path / "out.jsonl").read_text("utf-8").splitlines()]


def test_predict_says_what_the_training_said(result: TaskResult, root: Path, tmp_path: Path) -> None:
    told = predictions(root / "tagger")
    wanted = [{key: row[key] for key in ("words", "predicted", "entities")} for row in told]
    columns = "\n\n".join("\n".join(row["words"]) for row in told)
    records = "\n".join(json.dumps({"id": row["id"], "tokens": row["words"]}) for row in told)
    lines = "\n".join(" ".join(row["words"]) for row in told)
    texts = "\n".join(json.dumps({"body": " ".join(row["words"])}) for row in told)
    for name, content, options in (
        ("in.conll", columns, {}),
        ("in.jsonl", records, {"batch_size": 5}),
        ("in.txt", lines, {}),
        ("texts.jsonl", texts, {"text_field": "body"}),
    ):
        found = predicted(root / "tagger", content, tmp_path, name, **options)
        assert [{key: row[key] for key in wanted[0]} for row in found] == wanted, name
        assert "gold" not in found[0]
        for row, known in zip(found, told, strict=True):
            assert row["probabilities"] == pytest.approx(known["probabilities"], abs=1e-5)
    assert [row["id"] for row in predicted(root / "tagger", records, tmp_path, "in.jsonl")] == [r["id"] for r in told]
    predict_command(root / "tagger", [str(tmp_path / "in.jsonl")], tmp_path / "out.csv")
    row = next(csv.DictReader((tmp_path / "out.csv").open()))
    assert json.loads(row["predicted"]) == told[0]["predicted"] and json.loads(row["entities"]) == told[0]["entities"]
    with pytest.raises(DataError, match="which by its ending has columns, beside other files"):
        predict_command(root / "tagger", [str(tmp_path / "in.conll"), str(tmp_path / "in.txt")], tmp_path / "no.jsonl")


def test_a_mean_of_taggers_is_that_of_their_probabilities() -> None:
    def told(first: float, gold: int) -> WordPredictions:
        every = np.array([[first, 1 - first], [0, 0]], np.float32)
        losses = np.array([-np.log(every[0, gold]), 0], np.float32)
        return WordPredictions(np.array([int(first < 0.5), 1]), every.max(1), losses, every)

    mean = mean_words([told(0.9, 1), told(0.3, 1), told(0.4, 1)])
    assert mean.labels.tolist() == [0, 1]  # 1.6 of 3; the second word has no token
    assert mean.probabilities == pytest.approx([1.6 / 3, 0]) and mean.losses == pytest.approx([-np.log(1.4 / 3), 0])
