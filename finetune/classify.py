"""Labelled texts + a pretrained model -> a classifier, its figures, its predictions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from configs.errors import ConfigError, ExitStatus, UserError
from configs.load import to_yaml
from data_prep.atomic import check_replaceable, staged_directory, writing
from finetune.config import ClassifyConfig
from finetune.examples import Example, Splits, load_splits
from finetune.report import MARKER, PLOT, describe_examples, plot
from finetune.stopping import tidy_when_stopped

if TYPE_CHECKING:
    from finetune.classifier import Encoded, Start
    from finetune.loop import Fit


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        record: what `classify.json` says.
        test: figures of every system on the test part, the fine-tuned one first.
    """

    record: dict[str, Any]
    test: dict[str, dict[str, Any]]


def classify(config: ClassifyConfig, say: Callable[[str], None] = print) -> Result | None:
    """Train, choose, measure and save; None on all processes but the first.

    Args:
        config: everything that can be told.
        say: prints a line; called by the first process only.

    Raises:
        UserError: anything that stands in the way, before training where it can be known.
    """
    _check_output(config)
    splits = load_splits(config.data, config.seed)
    from finetune.classifier import encode, read_start
    from pretrain.engine.task_engine import task_processes

    data = config.data
    start = read_start(config.model, data.max_tokens, config.tokenizer_dir, data.append_end_of_document)
    numbers = {label: number for number, label in enumerate(splits.labels)}
    encoded = {
        part: encode(start, [e.text for e in examples], [numbers[e.label] for e in examples])
        for part, examples in splits.parts.items()
    }
    with task_processes() as launch:
        speak = say if launch.rank == 0 else lambda line: None
        _check_batches(config, launch.world_size)
        describe_examples(splits, encoded, speak)
        fitted, ran = _fit(config, start, encoded, splits.labels, speak)
        scratch = None
        if "scratch" in config.baselines:
            speak("the same network from random weights, for comparison")
            scratch, _ = _fit(config, start, encoded, splits.labels, speak, pretrained=False)
        if launch.rank != 0:
            return None
    with tidy_when_stopped():
        return _finish(config, start, splits, encoded, fitted, scratch, ran, say)


def _fit(
    config: ClassifyConfig,
    start: Start,
    encoded: Mapping[str, Encoded],
    labels: list[str],
    say: Callable[[str], None],
    pretrained: bool = True,
) -> tuple[Fit, dict[str, Any]]:
    """Returns the training's outcome, and what the engine really was."""
    import torch
    import torch.distributed as dist

    from finetune.classifier import Classification
    from finetune.loop import Plan, fit
    from pretrain.engine.task_engine import describe, task_engine
    from pretrain.models.huggingface.transformers_model import classifier_model

    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(config.seed)
    model = classifier_model(start.hf_config, start.tensors if pretrained else None, labels)
    task = Classification(
        config,
        encoded["train"],
        encoded["validation"],
        labels,
        pad=start.pad,
        rank=rank,
        world_size=world,
    )
    plan = Plan.resolve(config.training, config.optimizer, task.steps_per_epoch)
    engine = task_engine(
        model,
        config.optimizer,
        zero_stage=config.training.zero_stage,
        precision=config.training.precision,
        micro_batch_size=task.micro_batch_size,
        accumulation_steps=task.batch_size // (world * task.micro_batch_size),
    )
    torch.manual_seed(config.seed + 1 + rank)  # dropout differs between ranks
    return fit(engine, task, plan, config.training, say), describe(engine)


def _finish(
    config: ClassifyConfig,
    start: Start,
    splits: Splits,
    encoded: Mapping[str, Encoded],
    fitted: Fit,
    scratch: Fit | None,
    ran: dict[str, Any],
    say: Callable[[str], None],
) -> Result:
    """Save, read back what was saved, and measure that."""
    from finetune.classifier import save_classifier
    from finetune.metrics import score
    from pretrain.models.huggingface.transformers_model import classifier_model

    with staged_directory(config.output_dir, MARKER, config.overwrite) as folder:
        model = classifier_model(start.hf_config, None, splits.labels)
        save_classifier(folder, model, fitted.weights, start, splits.labels, config.model)
        systems: dict[str, dict[str, dict[str, Any]]] = {}
        for part in ("validation", "test"):
            scores = _saved_scores(folder, encoded[part], start)
            figures = {"fine-tuned": score(scores, encoded[part].gold, splits.labels)}
            systems[part] = figures | _baselines(config, splits, encoded, part)
            if scratch is not None:
                model.load_state_dict(scratch.weights)
                systems[part]["from scratch"] = score(
                    _scores(model, encoded[part], start), encoded[part].gold, splits.labels
                )
            _write_predictions(folder / f"predictions-{part}.jsonl", splits.parts[part], scores, splits.labels)
        plot(systems["test"]["fine-tuned"], folder / PLOT, say)
        record = {
            "source": start.provenance,
            "labels": splits.labels,
            "examples": splits.counts(),
            "left_out": splits.left_out,
            "ran": ran,
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "training_s": round(fitted.seconds, 2),
            "history": fitted.history,
            **systems,
        }
        (folder / MARKER).write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        (folder / "recipe.yaml").write_text(to_yaml(config), "utf-8")
    return Result(record, systems["test"])


def _baselines(
    config: ClassifyConfig, splits: Splits, encoded: Mapping[str, Encoded], part: str
) -> dict[str, dict[str, Any]]:
    from finetune import baselines
    from finetune.metrics import classification_figures

    gold, known = encoded[part].gold, encoded["train"].gold
    found: dict[str, dict[str, Any]] = {}
    if "majority" in config.baselines:
        predicted = baselines.majority(known, len(gold))
        found["most frequent label"] = classification_figures(gold, predicted, splits.labels)
    if "tfidf" in config.baselines:
        texts = {name: [example.text for example in examples] for name, examples in splits.parts.items()}
        predicted = baselines.tfidf(
            texts["train"], known, texts[part], balanced=config.class_weights == "balanced", seed=config.seed
        )
        found["TF-IDF + logistic regression"] = classification_figures(gold, predicted, splits.labels)
    return found


def _saved_scores(folder: Path, encoded: Encoded, start: Start) -> npt.NDArray[np.float32]:
    from transformers import AutoModelForSequenceClassification

    from pretrain.models.huggingface.transformers_model import load_weights

    return _scores(load_weights(AutoModelForSequenceClassification, folder, "float32"), encoded, start)


def _scores(model: Any, encoded: Encoded, start: Start) -> npt.NDArray[np.float32]:
    import torch

    from finetune.batches import by_length
    from finetune.classifier import probabilities

    device = "cuda" if torch.cuda.is_available() else "cpu"
    groups = by_length([len(row) for row in encoded.rows], 32)
    found = probabilities(model.to(device).eval(), encoded.rows, groups, start.pad, device)
    scores = np.stack([found[number] for number in range(len(encoded.rows))])
    if not np.isfinite(scores).all():
        raise UserError(
            "the classifier gives probabilities that are not numbers",
            where="training",
            expected="finite numbers; a smaller optimizer.lr or precision=fp32 may help",
            status=ExitStatus.DIVERGED,
        )
    return scores


def _write_predictions(
    path: Path, examples: Sequence[Example], scores: npt.NDArray[np.float32], labels: Sequence[str]
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for example, row in zip(examples, scores):
            line = {
                "id": example.id,
                "gold": example.label,
                "predicted": labels[int(row.argmax())],
                "probabilities": {label: round(float(p), 6) for label, p in zip(labels, row)},
            }
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _check_output(config: ClassifyConfig) -> None:
    """Better now than after the training."""
    check_replaceable(config.output_dir, MARKER, config.overwrite)
    with writing(config.output_dir):
        config.output_dir.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=config.output_dir.parent, prefix=".probe-").cleanup()


def _check_batches(config: ClassifyConfig, world_size: int) -> None:
    training = config.training
    if training.batch_size % world_size:
        raise ConfigError(
            f"is {training.batch_size}",
            where="training.batch_size",
            expected=f"a multiple of {world_size}, the processes",
        )
    per_rank = training.batch_size // world_size
    if training.micro_batch_size is not None and per_rank % training.micro_batch_size:
        raise ConfigError(
            f"is {training.micro_batch_size}",
            where="training.micro_batch_size",
            expected=f"a divisor of {per_rank} (batch_size {training.batch_size} over {world_size} processes)",
        )
