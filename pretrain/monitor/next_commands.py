"""The commands that may follow a run, and why others do not."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

from pretrain.config import ModelConfig, OptimizerConfig
from pretrain.models.huggingface.family import obstacle_to_export
from pretrain.monitor.records import RunOutcome


def next_commands(directory: Path, model: ModelConfig, outcome: RunOutcome, *, has_tensorboard: bool) -> list[str]:
    """Commands that may follow; none that would be refused, such as an export where there is no checkpoint.

    Args:
        directory: the run's.
        model: the network, which transformers may not know.
        outcome: how the run ended.
        has_tensorboard: whether it wrote event files.
    """
    commands = []
    if outcome.checkpoint is not None and obstacle_to_export(model) is None:
        target = _word(_new_path(directory / "export"))
        commands.append(f"python -m finetune export --model {_word(directory)} --output {target}")
    if has_tensorboard:
        commands.append(f"tensorboard --logdir {_word(directory / 'tensorboard')} --host 127.0.0.1")
    commands.append(f"python -m pretrain.monitor plot {_word(directory)}")
    return commands


def why_no_export(model: ModelConfig, outcome: RunOutcome) -> str | None:
    """Why a checkpoint that is there has no export among the next commands; None if it has one."""
    obstacle = obstacle_to_export(model)
    if outcome.checkpoint is None or obstacle is None:
        return None
    return f"none: Hugging Face's transformers know no model that has {obstacle}"


def how_to_continue(optimizer: OptimizerConfig, precision: str, outcome: RunOutcome) -> Iterator[str]:
    """What the same command would do after a run that did not finish, or what to change before; nothing if it did."""
    if outcome.ended_by == "finished":
        return
    if outcome.ended_by != "diverged":
        nothing = "the same command starts from the beginning: no checkpoint was saved"
        yield nothing if outcome.checkpoint is None else "the same command goes on from the newest checkpoint"
        return
    # Learning rate, samples and dropout follow from seed and step: what diverged does so again.
    yield "the same command diverges again; change what led there:"
    yield f"a lower optimizer.lr (now {optimizer.lr:g}), a longer optimizer.warmup (now {optimizer.warmup})"
    if precision == "fp16":
        yield "or training.precision=bf16"
    if outcome.checkpoint is None:
        yield "no checkpoint was saved: it starts from the beginning"
    else:
        keys = "optimizer,training.precision" if precision == "fp16" else "optimizer"
        yield f"and checkpoint.allow_changes=[{keys}] to go on from the newest checkpoint with it"


def _new_path(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(place for place in itertools.chain([path], numbered) if not (place.exists() or place.is_symlink()))


def _word(path: Path) -> str:
    """One word for a shell, which no command takes for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
