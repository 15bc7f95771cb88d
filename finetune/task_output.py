"""The directory that a fine-tuning task writes: what may be replaced, what is in it beside the model."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from configs.errors import DataError, ExitStatus, UserError
from configs.load import to_yaml
from data_prep.storage.durable import writing
from data_prep.storage.replaceable import TRANSFORMERS_FILES, DirectoryKind, check_replaceable, foreign_entry
from finetune.pretrained import ADAPTER_DIR
from finetune.tasks.base import FINE_TUNED
from finetune.tasks.base_config import TaskConfig

RECIPE = "recipe.yaml"
TENSORBOARD_DIR = "tensorboard"
FINE_TUNED_DIR, FROM_SCRATCH_DIR = "fine-tuned", "from-scratch"
TRAINING_ENTRIES = (FINE_TUNED_DIR, FROM_SCRATCH_DIR, "seed-*", "trial-*")
"""What lies in `training_directory`."""


def training_directory(output: Path) -> Path:
    """Where the state of the training lies whose result `output` is going to be."""
    return output.with_name(f"{output.name}.training")


def directory_kind(config: TaskConfig) -> DirectoryKind:
    """What tells an output of this task, and all that is in it."""
    own = (*config.files, "predictions-*.jsonl", RECIPE, TENSORBOARD_DIR, ADAPTER_DIR)
    return DirectoryKind(config.marker_keys, (*own, *TRANSFORMERS_FILES))


def check_output(config: TaskConfig) -> None:
    """Refuse an output that may not be replaced or cannot be written: better now than after the training.

    Raises:
        DataError: it holds something else, or an earlier result and `overwrite` is false; or other things than the
            state of a training lie where that will be.
        MachineError: it cannot be written.
    """
    check_replaceable(config.output, config.marker, config.overwrite, kind=directory_kind(config))
    refuse_foreign_training(config.output)
    with writing(config.output):
        config.output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=config.output.parent, prefix=".probe-").cleanup()


def refuse_foreign_training(output: Path) -> None:
    """Refuse to train beside things of others.

    Raises:
        DataError: what has the name of the directory for the training's state is another thing, or holds others.
    """
    directory = training_directory(output)
    if directory.exists() and not directory.is_dir():
        raise DataError("exists and is not a directory", where=directory, expected="another output")
    foreign = foreign_entry(directory, TRAINING_ENTRIES) if directory.exists() else None
    if foreign is not None:
        expected = "another output, or this directory without them: checkpoints go there"
        raise DataError(f"exists and holds other things: {foreign}", where=directory, expected=expected)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def draw_plots(
    plots: Mapping[str, Callable[[Mapping[str, Any], Path], None]],
    figures: Mapping[str, Any],
    folder: Path,
    log: Callable[[str], None],
) -> None:
    """Draw the plots; whatever goes wrong costs the picture, not the finished training."""
    for name, draw in plots.items():
        path = folder / name
        try:
            draw(figures, path)
        except Exception as error:
            path.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200]
            log(f"warning: {name} was not drawn ({type(error).__name__}: {reason})")


def refuse_not_finite(systems: Mapping[str, Any], config: TaskConfig) -> None:
    """Refuse figures of the fine-tuned model that are not finite numbers: they are never written.

    Args:
        systems: figures by part and system.
        config: of the task.

    Raises:
        UserError: names the first; status DIVERGED.
    """
    for part, found in systems.items():
        for key, value in found[FINE_TUNED].items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(
                    f"the {part} {key} of the saved {config.product} is {value}",
                    where="training",
                    expected="finite numbers; a smaller optimizer.lr or precision=fp32 may help",
                    status=ExitStatus.DIVERGED,
                )


def write_record(folder: Path, record: Mapping[str, Any], config: TaskConfig, log: Callable[[str], None]) -> None:
    """Write the marker with all figures, and the recipe; says if anything in the folder will stand in the way later.

    Args:
        folder: with all that the task wrote.
        record: what the marker says.
        config: of the task.
        log: prints a line.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / config.marker).write_text(text + "\n", "utf-8")
    (folder / RECIPE).write_text(to_yaml(config), "utf-8")
    undeclared = foreign_entry(folder, (config.marker, *directory_kind(config).entries))
    if undeclared is not None:
        log(f"warning: {type(config).__name__}.files does not name {undeclared}: this output cannot be replaced")
