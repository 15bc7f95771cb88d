"""Questions that a tiny model can answer, in SQuAD's JSON, and a training on them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from finetune.tasks.qa_config import QaConfig

PLACES = ["rome", "kiel", "new york", "lima"]


def squad(count: int = 160, seed: int = 0) -> dict[str, Any]:
    """Contexts of filler with one place, which is the answer, or with none."""
    generator = random.Random(seed)
    fill = ["the", "a", "of", "is", "when", "this", "class", "goes", "to", "object"]
    paragraphs = []
    for number in range(count):
        words = generator.choices(fill, k=generator.randint(4, 20))
        answers = []
        if number % 4:
            place, at = generator.choice(PLACES), generator.randint(0, len(words))
            start = len("".join(f"{word} " for word in words[:at]))
            words.insert(at, place)
            answers = [{"text": place, "answer_start": start}]
        asked = {"id": f"q{number}", "question": "when is this ?", "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": " ".join(words), "qas": [asked]})
    return {"version": "v2.0", "data": [{"title": "places", "paragraphs": paragraphs}]}


def qa_config(root: Path, name: str, **changes: Any) -> QaConfig:
    """A few seconds of training on `root/squad.json`; keys of sections are written with two underscores."""
    fields: dict[str, Any] = {
        "output": root / name,
        "model": root / "run",
        "data": {
            "train_texts": str(root / "squad.json"),
            "split": [0.7, 0.15, 0.15],
            "max_tokens": 40,
            "max_question_tokens": 12,
            "stride": 8,
        },
        "training": {"duration": "12 epochs", "batch_size": 16, "log_interval": 1},
        "optimizer": {"lr": 1e-2, "schedule": "linear", "warmup": "4 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return QaConfig.model_validate(fields)


def write_squad(path: Path, content: dict[str, Any] | None = None) -> Path:
    """A file in SQuAD's JSON."""
    path.write_text(json.dumps(content or squad(), indent=1, ensure_ascii=False), encoding="utf-8")
    return path
