"""Trainings on changed texts: the same whatever the ranks and the resume, and only the training part changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import CheckpointError, ConfigError
from finetune.augmentation.examples import AugmentedExamples
from finetune.pretrained import read_pretrained
from finetune.run_task import run_task
from finetune.tasks.classify import ClassifyTask
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from finetune.tasks.tag import TagTask
from tests.distributed import run_ranks
from tests.finetune.finetune_questions import qa_config
from tests.finetune.finetune_tags import tag_config, tagged, write_conll
from tests.finetune.finetune_texts import classify_config, prepare, train_on_rank

CHANGED: dict[str, Any] = {
    "augmentation": {"share": 0.7, "deletion": 0.2, "swap": 0.2, "keyboard": 0.05, "ocr": 0.05},
    "training__duration": "12 steps",
    "training__evaluate_every": "6 steps",
    "baselines": [],
    "data__max_train_samples": 100,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("augmented")
    prepare(root)
    write_conll(root / "texts.conll", tagged())
    return root


def examples_of(config: Any, task: Any) -> tuple[AugmentedExamples, list[Any]]:
    examples = task(config).read()
    made = task(config)
    made.read()
    return AugmentedExamples(config, made, read_pretrained(config.model), examples["train"]), list(examples["train"])


def test_an_epoch_is_the_same_in_any_order_and_others_differ(root: Path) -> None:
    config = classify_config(root, "out", **CHANGED)
    augmented, examples = examples_of(config, ClassifyTask)
    numbers = list(range(len(examples)))
    first = {number: augmented.example(0, number) for number in numbers}
    again, _ = examples_of(config, ClassifyTask)
    assert {number: again.example(0, number) for number in reversed(numbers)} == first
    changed = [number for number in numbers if first[number] != examples[number]]
    assert 0.5 < len(changed) / len(numbers) < 0.8
    assert sum(again.example(1, n) != first[n] for n in numbers) > 0.5 * len(numbers)
    assert all(first[n].label == examples[n].label and first[n].id == examples[n].id for n in numbers)
    part = augmented.part(0, [5, 3])
    assert part.rows[1] == augmented.part(0, [3]).rows[0]  # type: ignore[attr-defined]
    shown = list(augmented.shown())
    assert len(shown) == 6 and shown[0].startswith("augmented   ") and shown[1].startswith("         -> ")


def test_words_of_taggers_keep_their_tags_and_entities_stay(root: Path) -> None:
    config = tag_config(root, "out", augmentation={"share": 1.0, "deletion": 0.4, "ocr": 0.3})
    augmented, examples = examples_of(config, TagTask)
    shorter = 0
    for number, example in enumerate(examples):
        found = augmented.example(0, number)
        entities = [tag for tag in example.tags if tag != "O"]
        assert [tag for tag in found.tags if tag != "O"] == entities
        assert len(found.words) == len(found.tags) == len(found.gaps)
        assert found.text == " ".join(found.words)
        shorter += len(found.words) < len(example.words)
    assert shorter > len(examples) / 2
    with pytest.raises(
        ValidationError, match=r"augmentation\.swap: what this task learns.*expected deletion, synonyms"
    ):
        tag_config(root, "out", augmentation={"swap": 0.1})
    with pytest.raises(ValidationError, match=r"augmentation\.deletion: .*expected no augmentation"):
        qa_config(root, "out", augmentation={"deletion": 0.1})


def test_a_keyboard_has_no_chinese_characters(root: Path, tmp_path: Path) -> None:
    texts = [{"text": f"今天天气第{n}天很好", "kind": "ab"[n % 2]} for n in range(40)]
    (tmp_path / "zh.jsonl").write_text("\n".join(json.dumps(text, ensure_ascii=False) for text in texts), "utf-8")
    changes = {"data__train_texts": str(tmp_path / "zh.jsonl"), "augmentation": {"keyboard": 0.1}}
    with pytest.raises(ConfigError, match=r"(?s)augmentation\.keyboard: .*typed by its sounds.*augmentation\.ocr"):
        examples_of(classify_config(root, "out", **changes), ClassifyTask)
    changes["augmentation"] = {"deletion": 0.2, "ocr": 0.3, "share": 1.0}
    augmented, examples = examples_of(classify_config(root, "out", **changes), ClassifyTask)
    assert sum(augmented.example(0, n) != examples[n] for n in range(len(examples))) > len(examples) / 2


@pytest.mark.slow
def test_two_processes_and_a_resume_equal_one_process(root: Path) -> None:
    def stopping(line: str) -> None:
        if line.startswith("step     7/"):
            os.kill(os.getpid(), signal.SIGTERM)

    one = train_on_rank(str(root), "one", CHANGED)
    with pytest.raises(SystemExit):
        run_task(classify_config(root, "again", **CHANGED), stopping)
    other = {**CHANGED, "augmentation": {**CHANGED["augmentation"], "swap": 0.1}}
    with pytest.raises(CheckpointError, match=r"augmentation\.swap"):
        run_task(classify_config(root, "again", **other), lambda line: None)
    assert train_on_rank(str(root), "again", CHANGED)["history"] == one["history"]
    assert (root / "one" / "model.safetensors").read_bytes() == (root / "again" / "model.safetensors").read_bytes()
    plain = train_on_rank(str(root), "plain", {**CHANGED, "augmentation": None})
    assert plain["history"] != one["history"]
    changes = {**CHANGED, "training__zero_stage": 2}
    two = run_ranks(
        train_on_rank, 2, str(root), "two", changes, process_group=False, preload=("deepspeed", "transformers")
    )
    losses = [[row["loss"] for row in found["history"] if "loss" in row] for found in (one, two[0])]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_texts_are_translated_there_and_back_once(root: Path) -> None:
    for name, fields in (("there", ("text", "kind")), ("back", ("kind", "text"))):
        given: dict[str, Any] = {
            "output": root / name,
            "model": root / "run",
            "data": {
                "train_texts": str(root / "texts.jsonl"),
                "source_field": fields[0],
                "target_field": fields[1],
                "max_target_tokens": 10,
                "max_eval_samples": 4,
            },
            "generation": {"max_new_tokens": 6, "num_beams": 1},
            "training": {"duration": "8 steps"},
            "optimizer": {"lr": 5e-3},
        }
        run_task(Seq2SeqConfig.model_validate(given), lambda line: None)
    translate = {
        "back_translation": 1.0,
        "share": 1.0,
        "translate_there": root / "there",
        "translate_back": root / "back",
    }
    changes = {**CHANGED, "augmentation": translate, "data__max_train_samples": 20, "training__duration": "2 steps"}
    augmented, examples = examples_of(classify_config(root, "translated", **changes), ClassifyTask)
    assert any(augmented.example(0, n).text != examples[n].text for n in range(len(examples)))
    (cached,) = (root / "back-translations").glob("*.json")
    before = cached.stat().st_mtime_ns
    assert run_task(classify_config(root, "translated", **changes), lambda line: None) is not None
    assert [cached] == list((root / "back-translations").glob("*.json")) and cached.stat().st_mtime_ns == before
    changes["augmentation"] = {**translate, "translate_back": root / "translated"}
    with pytest.raises(ConfigError, match=r"augmentation\.translate_back: .*does not write"):
        examples_of(classify_config(root, "out", **changes), ClassifyTask)
