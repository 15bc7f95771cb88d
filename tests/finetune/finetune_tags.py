"""Tagged texts that a tiny model can tell apart, as CoNLL columns, and a tagging of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from finetune.tasks.tag_config import TagConfig

# Words that small vocabularies have as one token.
NAMES = {"PER": ["object", "with", "for"], "LOC": ["and", "as", "be in"]}


def tagged(count: int = 160, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Texts of words and IOB2 tags; which words are names is told by the words alone."""
    generator = random.Random(seed)
    fill = ["the", "a", "of", "is", "to"]
    texts = []
    for _ in range(count):
        text: list[tuple[str, str]] = []
        for _ in range(generator.randint(2, 4)):
            text += [(word, "O") for word in generator.choices(fill, k=generator.randint(1, 3))]
            kind = generator.choice(list(NAMES))
            words = generator.choice(NAMES[kind]).split()
            text += [(word, f"{'I' if number else 'B'}-{kind}") for number, word in enumerate(words)]
        texts.append(text)
    return texts


def write_conll(path: Path, texts: list[list[tuple[str, str]]], separator: str = " ") -> Path:
    """A word and its tag in each line."""
    blocks = ["\n".join(f"{word}{separator}{tag}" for word, tag in text) for text in texts]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path


def tag_config(root: Path, name: str, **changes: Any) -> TagConfig:
    """A few seconds of training on `root/texts.conll`; keys of sections are written with two underscores."""
    fields: dict[str, Any] = {
        "output": root / name,
        "model": root / "run",
        "data": {"train_texts": str(root / "texts.conll"), "split": [0.7, 0.15, 0.15]},
        "training": {"duration": "10 epochs", "batch_size": 16, "log_interval": 1},
        "optimizer": {"lr": 1e-2, "schedule": "linear", "warmup": "4 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return TagConfig.model_validate(fields)


def tag_on_rank(root: str, output: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What one rank does; returns its record (rank 0) or nothing."""
    from finetune.run_task import run_task

    result = run_task(tag_config(Path(root), output, **changes), log=lambda line: None)
    return result.record if result is not None else {}
