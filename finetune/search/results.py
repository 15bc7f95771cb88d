"""What a search found, as files and as a table.

```
OUTPUT/trial-0003/    the result of each trial, as one run of the task writes it
OUTPUT/trials.csv     what each trial chose, and what became of it
OUTPUT/best.yaml      the settings of the best one, for the task's own command
OUTPUT/search.json    all of it
OUTPUT/tensorboard/   the trials for TensorBoard's tab of hyperparameters
```
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.load import to_yaml
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import DirectoryKind
from finetune.checkpoints import remove_training
from finetune.joined_runs import link
from finetune.search.outcomes import TrialOutcome
from finetune.search.space import search_of, with_values
from finetune.task_output import RECIPE, TENSORBOARD_DIR, training_directory
from finetune.tasks.base_config import TaskConfig

MARKER, BEST, TABLE = "search.json", "best.yaml", "trials.csv"
KIND = DirectoryKind(("task", "metric", "trials"), ("trial-*", RECIPE, BEST, TABLE, TENSORBOARD_DIR))
_SHOWN = 20
"""Trials of the table on the console."""


@dataclass(frozen=True)
class SearchResult:
    """What was found.

    Attributes:
        outcomes: of all trials, the best first; those without a figure last.
        best: the settings of the best one.
    """

    outcomes: list[TrialOutcome]
    best: TaskConfig


def publish(config: TaskConfig, outcomes: Sequence[TrialOutcome]) -> SearchResult:
    """Join the results of all trials in the output.

    Raises:
        DataError: no trial has a figure.
    """
    ordered = sorted(outcomes, key=lambda outcome: _order(config, outcome))
    if ordered[0].figure is None:
        raise DataError(
            f"no trial came to its end; the first: {outcomes[0].reason}",
            where="search.space",
            expected="settings that can be trained",
        )
    away = config.output.with_name(f"{config.output.name}-best")
    best = with_values(config, ordered[0].values).model_copy(update={"output": away, "overwrite": False})
    with staged_directory(config.output, MARKER, config.overwrite, kind=KIND) as folder:
        for outcome in ordered:
            trial = training_directory(config.output) / outcome.name
            if trial.is_dir():
                shutil.copytree(trial, folder / outcome.name, copy_function=link)
        _write_table(folder / TABLE, config, ordered)
        (folder / BEST).write_text(to_yaml(best), "utf-8")
        (folder / RECIPE).write_text(to_yaml(config), "utf-8")
        _draw(folder / TENSORBOARD_DIR, config, ordered)
        record = {
            "task": config.name,
            "metric": config.training.select_by,
            "best": ordered[0].name,
            "trials": [{key: value for key, value in asdict(each).items() if key != "settings"} for each in ordered],
        }
        (folder / MARKER).write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    remove_training(config.output)
    return SearchResult(ordered, best)


def show_search(result: SearchResult, config: TaskConfig) -> None:
    """Print the table of the trials, the best first, and how to train with the best settings."""
    from rich.console import Console
    from rich.table import Table

    keys, metric = list(search_of(config).space), config.training.select_by
    table = Table(title=f"{len(result.outcomes)} trials by the validation {metric}")
    for column in ("trial", *keys, metric, "at step", "training"):
        table.add_column(column, justify="right" if column in (metric, "at step", "training") else "left")
    for outcome in result.outcomes[:_SHOWN]:
        chosen = [_cell(outcome.values[key]) if key in outcome.values else "" for key in keys]
        told = (f"{outcome.figure:.4f}", str(outcome.best_step), f"{outcome.training_s:.0f} s")
        table.add_row(str(outcome.number), *chosen, *(told if outcome.figure is not None else (outcome.state, "", "")))
    Console().print(table)
    if len(result.outcomes) > _SHOWN:
        print(f"and {len(result.outcomes) - _SHOWN:,} more")
    best = shlex.quote(str(config.output / BEST))
    print(f"trials       {config.output / TABLE}\nbest         {best}")
    print(f"next: python -m finetune run --config {best}", flush=True)


def _order(config: TaskConfig, outcome: TrialOutcome) -> tuple[bool, float, int]:
    if outcome.figure is None:
        return True, 0.0, outcome.number
    highest = config.selects[config.training.select_by] == "highest"
    return False, -outcome.figure if highest else outcome.figure, outcome.number


def _write_table(path: Path, config: TaskConfig, outcomes: Sequence[TrialOutcome]) -> None:
    keys = list(search_of(config).space)
    names = list(outcomes[0].figures)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", *keys, "state", *names, "best_step", "training_s", "reason"])
        for each in outcomes:
            chosen = [_cell(each.values[key]) if key in each.values else "" for key in keys]
            figures = [each.figures.get(name, "") for name in names]
            row = [each.name, *chosen, each.state, *figures, each.best_step, each.training_s, each.reason]
            writer.writerow(row)


def _draw(directory: Path, config: TaskConfig, outcomes: Sequence[TrialOutcome]) -> None:
    """A point for each trial in TensorBoard's tab of hyperparameters."""
    if not config.training.tensorboard:
        return
    from torch.utils.tensorboard import SummaryWriter

    for outcome in outcomes:
        if outcome.figure is None:
            continue
        values = {key: v if isinstance(v, int | float | str) else _cell(v) for key, v in outcome.values.items()}
        figures = {f"validation/{name}": value for name, value in outcome.figures.items()}
        with SummaryWriter(log_dir=str(directory / outcome.name)) as writer:
            writer.add_hparams(values, figures, run_name=".")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
