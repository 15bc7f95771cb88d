"""The small models that the tasks of a language start from, each made once: an encoder, a decoder, an encoder-decoder.

They read what the tasks' training parts say and nothing else, so that no text of a validation or test part is in them.
The encoder-decoder reads both languages, as it translates.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.real_tasks.commands import run_command
from benchmarks.real_tasks.parts import read_part, shared_out, write_parts
from benchmarks.real_tasks.tasks import TASKS, Family

_LEARNED_BYTES = 5_000_000
"""Of the texts, that a tokenizer is learned from: more costs a unigram vocabulary minutes."""
_SMALL_BATCH = ("training.micro_batch_size=8", "training.global_batch_size=8", "model.seq_length=256")


@dataclass(frozen=True)
class SmallModel:
    """How a model is pretrained.

    Attributes:
        tokenizer: the recipe of its tokenizer.
        vocab_size: of it, by language.
        recipe: of its pretraining.
        settings: that differ from the recipe.
        steps: of it; minutes on two free cores.
    """

    tokenizer: str
    vocab_size: Mapping[str, int]
    recipe: str
    settings: tuple[str, ...]
    steps: int


MODELS: dict[Family, SmallModel] = {
    "encoder": SmallModel(
        "tokenizer-encoder-8k", {"en": 5000, "zh": 6000}, "modern-encoder-tiny",
        (*_SMALL_BATCH, "optimizer.warmup=60 steps"), 800,
    ),
    "decoder": SmallModel(
        "tokenizer-bpe-8k", {"en": 5000, "zh": 6000}, "gpt-tiny",
        _SMALL_BATCH, 600,
    ),
    "encoder-decoder": SmallModel(
        "tokenizer-t5-8k", {"both": 9000}, "t5-tiny",
        ("model.seq_length=160", "model.decoder_seq_length=64"), 1000,
    ),
}  # fmt: skip


def written_task(name: str, language: str, output: Path) -> Path:
    """The folder with the three files of a task, written if they are not there."""
    folder = output / language / name / "data"
    if not folder.is_dir():
        task = TASKS[name, language]
        staged = folder.with_name(".data")
        write_parts(shared_out(task.make(output / "sources"), task.limits), staged)
        staged.rename(folder)
    return folder


def pretrained_model(
    family: Family, language: str, output: Path, steps: int | None = None
) -> tuple[Path, dict[str, Any]]:
    """The run directory of a model, made if need be, and what is known of its making.

    Args:
        family: of the model.
        language: that it is for.
        output: where everything lies.
        steps: of pretraining, where it is made; None: as many as usual.
    """
    model = MODELS[family]
    scope = language if language in model.vocab_size else "both"
    folder = output / scope / family
    done = folder / "made.json"
    if not done.is_file():
        texts = _corpus(scope, output)
        began = time.monotonic()
        small = [f"vocab_size={model.vocab_size[scope]}", "character_coverage=0.9995", f"sample_bytes={_LEARNED_BYTES}"]
        where = ["--input", str(texts), "--output", str(folder / "tokenizer")]
        run_command(
            ["-m", "data_prep", "train-tokenizer", "--config", model.tokenizer, *where, *small, "overwrite=true"],
            folder,
        )
        where = ["--input", str(texts), "--tokenizer", str(folder / "tokenizer"), "--output", str(folder / "corpus")]
        run_command(["-m", "data_prep", "tokenize", *where, "overwrite=true"], folder)
        steps = steps or model.steps
        settings = [f"data.train={folder / 'corpus'}", f"output={folder / 'run'}", "training.device=cpu"]
        settings += [f"training.duration={steps} steps", *model.settings]
        run_command(["pretrain/main.py", "--config", model.recipe, *settings], folder)
        seconds = round(time.monotonic() - began, 1)
        done.write_bytes(orjson.dumps({"run": str(folder / "run"), "steps": steps, "seconds": seconds}))
    return folder / "run", orjson.loads(done.read_bytes())


def texts_of(record: Mapping[str, Any], between: str) -> Iterator[str]:
    """The texts of a record of any task.

    Args:
        record: as a task reads it.
        between: what stands between words that come without their text.
    """
    if "tokens" in record:
        yield between.join(record["tokens"])
    for field in ("text", "source", "target", "context"):
        if field in record:
            yield record[field]
    messages = record.get("messages", [])
    if messages:
        yield "\n".join(message["content"] for message in messages)


def _corpus(scope: str, output: Path) -> Path:
    """What the training parts of all tasks of a language say, each text once, as JSON lines."""
    file = output / scope / "texts.jsonl"
    if not file.is_file():
        texts: dict[str, None] = {}
        for name, language in TASKS:
            if scope in (language, "both"):
                print(f"# {name} in {language}", file=sys.stderr, flush=True)
                for record in read_part(written_task(name, language, output), "train"):
                    texts |= dict.fromkeys(texts_of(record, {"en": " ", "zh": ""}[language]))
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(".texts.jsonl")
        staged.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
        staged.rename(file)
    return file
