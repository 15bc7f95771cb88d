"""Labelled texts that a tiny model can tell apart, a run to start from, and what one rank does with them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from finetune.tasks.classify_config import ClassifyConfig
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

WORDS = {
    "error": "raises exception error failure",
    "value": "returns value result number",
    "file": "opens path file disk",
}


def write_texts(path: Path, count: int = 240, seed: int = 0) -> Path:
    """JSON lines; the label is told by a few words among others."""
    generator = random.Random(seed)
    fill = ["the", "a", "of", "is", "when", "this", "class", "method", "module", "object", "name"]
    with path.open("w") as file:
        for number in range(count):
            label = generator.choice(list(WORDS))
            words = generator.choices(fill, k=generator.randint(2, 12)) + generator.choices(WORDS[label].split(), k=2)
            generator.shuffle(words)
            file.write(json.dumps({"id": f"n{number}", "text": " ".join(words), "kind": label}) + "\n")
    return path


def prepare(root: Path, **model: Any) -> None:
    """`root/run`, a pretraining run with random weights, and `root/texts.jsonl`."""
    tokenizer = train_tokenizer(root / "tok")
    write_run(root / "run", llama(tokenizer, **model), tokenizer)
    write_texts(root / "texts.jsonl")


def classify_config(root: Path, name: str, **changes: Any) -> ClassifyConfig:
    """A few seconds of training on what `prepare` made; keys of sections are written `section.key`."""
    fields: dict[str, Any] = {
        "output": root / name,
        "model": root / "run",
        "data": {"train_texts": str(root / "texts.jsonl"), "label_field": "kind", "split": [0.7, 0.15, 0.15]},
        "training": {"duration": "6 epochs", "batch_size": 16, "log_interval": 1},
        "optimizer": {"lr": 5e-3, "schedule": "linear", "warmup": "4 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return ClassifyConfig.model_validate(fields)


def train_on_rank(root: str, output: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What one rank does; returns its record (rank 0) or nothing."""
    from finetune.run_task import run_task

    result = run_task(classify_config(Path(root), output, **changes), log=lambda line: None)
    return result.record if result is not None else {}
