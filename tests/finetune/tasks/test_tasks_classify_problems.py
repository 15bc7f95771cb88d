"""Several labels, numbers, pairs: from a checkpoint to a directory whose pipeline gives the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import DataError
from finetune.run_task import TaskResult, run_task, show
from finetune.tasks.classify_config import ClassifyData
from finetune.tasks.classify_problems import MultiLabel, Regression, SingleLabel, worst
from finetune.tasks.labelled_texts import load_splits
from finetune.tasks.multi_label_metrics import multi_label_figures
from finetune.tasks.regression_metrics import regression_figures
from pretrain.models.encoder.bert_config import BertConfig
from tests.finetune.finetune_runs import write_run
from tests.finetune.finetune_texts import WORDS, classify_config, prepare
from tests.finetune.finetune_tokenizers import train_tokenizer


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("problems")
    prepare(root)
    tokenizer = train_tokenizer(root / "encoder-tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64}
    model = BertConfig(**sizes, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    write_run(root / "bert", model, tokenizer)  # type: ignore[arg-type]
    generator = random.Random(0)
    fill = ["the", "a", "of", "is", "when", "this", "class", "method", "object", "name"]
    several, pairs = [], []
    for number in range(200):
        found = [label for label in WORDS if generator.random() < 0.4]
        words = generator.choices(fill, k=6) + [generator.choice(WORDS[label].split()) for label in found]
        generator.shuffle(words)
        text, other = " ".join(words), generator.choice(WORDS[generator.choice(list(WORDS))].split())
        value = len(found) - 0.5 * ("error" in found)
        several.append({"id": f"n{number}", "text": text, "labels": found, "value": value})
        pair = {"id": f"n{number}", "text": " ".join(generator.choices(fill, k=9)), "second": f"it {other} it"}
        pairs.append(pair | {"label": next(label for label in WORDS if other in WORDS[label])})
    write_lines(root / "several.jsonl", several)
    write_lines(root / "pairs.jsonl", pairs)
    return root


def train(root: Path, name: str, texts: str, **changes: Any) -> TaskResult:
    data = {"train_texts": str(root / texts), "split": [0.7, 0.15, 0.15]}
    found = run_task(classify_config(root, name, data=data, **changes), lambda line: None)
    assert found is not None
    return found


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions-test.jsonl").open()]


def given(root: Path, name: str) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, (root / name).open())}


@pytest.mark.slow
def test_any_number_of_labels(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import pipeline

    changes: dict[str, Any] = {"problem_type": "multi_label_classification", "data__label_field": "labels"}
    found = train(root, "several", "several.jsonl", training__duration="12 epochs", **changes)
    figures = found.test["fine-tuned"]
    assert figures["micro_f1"] > 0.8 and figures["auroc"] > 0.8 and set(figures["labels"]) == set(WORDS)
    assert {"most frequent label", "TF-IDF + logistic regression"} < set(found.test)
    losses = [row["loss"] for row in figures["worst"]]
    assert losses == sorted(losses, reverse=True) and len(losses) == 20
    judge = pipeline("text-classification", str(root / "several"), top_k=None, device="cpu", truncation=True)
    texts = given(root, "several.jsonl")
    for row in predictions(root / "several"):
        told = {each["label"]: each["score"] for each in judge([texts[row["id"]]["text"]])[0]}
        assert told == pytest.approx(row["probabilities"], abs=1e-4)
        assert set(row["predicted"]) == {label for label, p in row["probabilities"].items() if p >= 0.5}
        assert row["gold"] == texts[row["id"]]["labels"]
    assert not list((root / "several").glob("*.png"))
    show(found, classify_config(root, "several", **{"problem_type": "multi_label_classification"}))
    assert "all together (micro)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_number_of_each_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import pipeline

    changes: dict[str, Any] = {"problem_type": "regression", "data__label_field": "value"}
    found = train(root, "value", "several.jsonl", training__duration="12 epochs", training__zero_stage=2, **changes)
    figures = found.test["fine-tuned"]
    assert figures["pearson"] > 0.7 and figures["loss"] == pytest.approx(figures["mse"], rel=1e-5)
    assert found.test["mean of the training texts"]["pearson"] == 0 < found.test["TF-IDF + ridge regression"]["pearson"]
    config = json.loads((root / "value" / "config.json").read_text())
    assert config["problem_type"] == "regression" and list(config["id2label"].values()) == ["value"]
    judge = pipeline("text-classification", str(root / "value"), device="cpu", truncation=True)
    texts = given(root, "several.jsonl")
    for row in predictions(root / "value"):
        assert judge(texts[row["id"]]["text"])[0]["score"] == pytest.approx(row["predicted"], abs=1e-4)
        assert row["loss"] == pytest.approx((row["gold"] - row["predicted"]) ** 2, abs=1e-4)
    assert any("validation_pearson" in row for row in found.record["history"])
    show(found, classify_config(root, "value", problem_type="regression", training__select_by="pearson"))
    assert "spearman" in capsys.readouterr().out


@pytest.mark.slow
def test_pairs_are_read_together(root: Path) -> None:
    from transformers import pipeline

    # Only the second text tells; of the pairs, many are longer than 24 tokens.
    changes: dict[str, Any] = {"data__text_pair_field": "second", "data__max_tokens": 24}
    found = train(root, "pairs", "pairs.jsonl", model=root / "bert", training__duration="12 epochs", **changes)
    assert found.test["fine-tuned"]["accuracy"] > 0.7 and found.test["fine-tuned"]["matthews"] > 0.5
    judge = pipeline("text-classification", str(root / "pairs"), top_k=None, device="cpu", truncation=True)
    texts, long = given(root, "pairs.jsonl"), 0
    for row in predictions(root / "pairs"):
        pair = {"text": texts[row["id"]]["text"], "text_pair": texts[row["id"]]["second"]}
        encoded = judge.tokenizer(pair["text"], pair["text_pair"])
        long += len(encoded.input_ids) > 24
        assert sum(encoded.token_type_ids) > 0
        told = {each["label"]: each["score"] for each in judge(pair, top_k=None)}
        assert told == pytest.approx(row["probabilities"], abs=1e-4)
    assert long > 3
    command = found.task.next_command(root / "pairs")
    assert command is not None and "text_pair" in command


def test_losses_are_those_of_the_problem() -> None:
    functional, generator = torch.nn.functional, torch.Generator().manual_seed(0)
    logits_BC = torch.randn(4, 3, generator=generator)
    single = SingleLabel(["a", "b", "c"], np.array([1.0, 2.0, 0.5]))
    gold = torch.tensor([0, 2, 1, 1])
    expected = functional.cross_entropy(logits_BC, gold, reduction="none")
    expected = expected * torch.tensor([1.0, 0.5, 2.0, 2.0])
    assert torch.allclose(single.losses(logits_BC, gold.tolist()), expected)
    several = MultiLabel(["a", "b", "c"])
    targets = [[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]
    expected = functional.binary_cross_entropy_with_logits(logits_BC, torch.tensor(targets).float(), reduction="none")
    assert torch.allclose(several.losses(logits_BC, targets), expected.mean(1))
    told = several.output_losses(several.outputs(logits_BC).numpy(), targets)
    assert told == pytest.approx(expected.mean(1).numpy(), abs=1e-5)
    numbers = Regression()
    assert torch.allclose(numbers.losses(logits_BC[:, :1], [0.5] * 4), (logits_BC[:, 0] - 0.5) ** 2)
    found = worst(["x", "y"], np.array([0.1, 0.3]), [{"predicted": 1}, {"predicted": 2}])
    assert found == [{"id": "y", "predicted": 2, "loss": 0.3}, {"id": "x", "predicted": 1, "loss": 0.1}]


def test_figures_against_counts_by_hand() -> None:
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    chosen = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    figures = multi_label_figures(gold, chosen, ["a", "b", "c"], chosen + 0.1 * gold)
    assert figures["micro_precision"] == pytest.approx(3 / 4) and figures["micro_recall"] == pytest.approx(3 / 4)
    assert figures["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2), "the label that does not occur is left out"
    assert figures["accuracy"] == 0.5 and figures["labels"]["c"]["f1"] is None and figures["auroc"] > 0.9
    line = regression_figures([1, 2, 3, 4], [2.1, 3.9, 6.2, 8.0])
    assert line["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [2.1, 3.9, 6.2, 8.0])[0, 1])
    assert line["spearman"] == 1 and line["mae"] == pytest.approx((1.1 + 1.9 + 3.2 + 4) / 4)
    shifted = regression_figures([1e6 + n for n in range(4)], [2.1, 3.9, 6.2, 8.0])
    assert shifted["pearson"] == pytest.approx(line["pearson"], abs=1e-9)
    assert regression_figures([1, 1], [1, 2])["pearson"] == 0


def test_labels_are_read_as_the_problem_has_them(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"text": f"t{n}", "label": ["a", "b"][: n % 3], "n": n / 2} for n in range(60)]
    path = write_lines(tmp_path / "a.jsonl", lines)
    data: dict[str, Any] = {"train_texts": [str(path)], "split": (0.6, 0.2, 0.2)}
    found = load_splits(ClassifyData(**data), 0, "multi_label_classification")
    assert found.labels == ["a", "b"] and sum(map(len, found.parts.values())) == 60 and not found.unlabelled
    assert sum(counts["b"] for counts in found.counts().values()) == 20
    one = load_splits(ClassifyData(**data, labels=["b"]), 0, "multi_label_classification")
    assert one.labels == ["b"] and one.left_out == 40 and sum(map(len, one.parts.values())) == 60
    numbers = load_splits(ClassifyData(**data, label_field="n"), 0, "regression")
    assert numbers.labels == ["n"] and {e.value for e in numbers.parts["train"]} <= {n / 2 for n in range(60)}
    with pytest.raises(DataError, match="expected: a number"):
        load_splits(ClassifyData(**data), 0, "regression")
    with pytest.raises(DataError, match="expected: a list of labels"):
        load_splits(ClassifyData(**data, label_field="n"), 0, "multi_label_classification")
    with pytest.raises(DataError, match=r"no field 'hypothesis'[\s\S]*data\.text_pair_field"):
        load_splits(ClassifyData(**data, text_pair_field="hypothesis"), 0, "multi_label_classification")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training__select_by": "pearson"}, "the figures of single_label_classification are macro_f1, accuracy"),
        ({"problem_type": "regression", "class_weights": "balanced"}, "class_weights is of single labels"),
        ({"problem_type": "regression", "data__min_label_count": 3}, "min_label_count are of labels"),
        ({"data__text_pair_field": "b", "data__append_end_of_document": False}, "is of single texts"),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        classify_config(tmp_path, "x", **changes)


def test_a_regression_selects_by_its_own_figure(tmp_path: Path) -> None:
    assert classify_config(tmp_path, "x", problem_type="regression").training.select_by == "pearson"
