"""A task with several seeds: each trained by itself, then the mean of their figures, its interval, and their ensemble.

```
OUTPUT.training/seed-1/            a complete result, as one run of the task writes it
OUTPUT.training/seed-2.training/   what the training that is under way goes on from
```

Examples are split by `seed`, the same for all; the seeds decide the order, the new layer's weights and dropout.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ExitStatus
from configs.load import to_yaml
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import DirectoryKind, check_replaceable
from finetune.checkpoints import remove_training
from finetune.joined_runs import is_done, link, run_together
from finetune.methods.saving import load_trained
from finetune.run_task import predict_all
from finetune.stopping import tidy_when_stopped
from finetune.task_output import RECIPE, refuse_foreign_training, training_directory
from finetune.tasks.base import FINE_TUNED, FinetuneTask
from finetune.tasks.base_config import TaskConfig

MARKER = "seeds.json"
KIND = DirectoryKind(("task", "seeds", "figures"), ("seed-*", RECIPE))
ENSEMBLE = "ensemble"
"""What the mean of the seeds' predictions is called beside the systems."""


@dataclass(frozen=True)
class SeedsResult:
    """What was measured over several seeds.

    Attributes:
        record: what `seeds.json` says.
        parts: part -> system -> figure -> `mean`, `low` and `high` (the 95 % interval of the mean), `values`.
    """

    record: dict[str, Any]
    parts: dict[str, dict[str, dict[str, Any]]]


def run_seeds(config: TaskConfig, log: Callable[[str], None] = print) -> SeedsResult | None:
    """Run a task with each of `config.seeds`; None on all processes but the first.

    Seeds whose results are complete are not run again: the same call goes on after a stop or a kill.

    Raises:
        UserError: as of `run_task`; or an earlier call with other settings left results.
        SystemExit: with status INTERRUPTED, after a signal.
    """
    check_replaceable(config.output, MARKER, config.overwrite, kind=KIND)
    refuse_foreign_training(config.output)
    from pretrain.engine.task_engine import task_processes

    runs = {seed: _of_seed(config, seed) for seed in config.seeds}
    with tidy_when_stopped(ExitStatus.INTERRUPTED), task_processes() as launch:
        for seed, run in runs.items():
            done = is_done(run)
            if launch.rank == 0:
                log(f"seed {seed}" + (": its result is complete" if done else ""))
            if not done:
                run_together(run, log)
        if launch.rank != 0:
            return None
    return _publish(config, runs)


def show_seeds(result: SeedsResult, config: TaskConfig) -> None:
    """Print the means of the last part, and where the rest lies."""
    from rich.console import Console
    from rich.table import Table

    part, systems = list(result.parts.items())[-1]
    names = list(systems[FINE_TUNED])
    table = Table(title=f"{part} part, {len(config.seeds)} seeds: mean and its 95 % interval")
    # A row for each figure: a task may have a dozen, and few systems.
    for column in ("", *systems):
        table.add_column(column)
    for name in names:
        table.add_row(name, *(_told(figures[name]) if name in figures else "" for figures in systems.values()))
    Console().print(table)
    print(f"{config.product:<11}  {config.output / 'seed-N'}\nfigures      {config.output / MARKER}", flush=True)


def _told(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['mean']:.4f}"
    return f"{figure['mean']:.4f} ± {figure['high'] - figure['mean']:.4f}"


def mean_and_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean of a few independent values, and its 95 % interval by Student's t; None where one value tells none."""
    import numpy as np
    from scipy import stats

    mean, low, high = float(np.mean(values)), None, None
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "values": list(values)}


def _of_seed(config: TaskConfig, seed: int) -> TaskConfig:
    """The settings of one seed's run; baselines that no seed changes are measured once."""
    first = seed == config.seeds[0]
    changes = {
        **config.placed_beside(),
        "output": training_directory(config.output) / f"seed-{seed}",
        "overwrite": False,
        "seeds": [],
        "training": config.training.model_copy(update={"seed": seed}),
        "baselines": [name for name in config.baselines if first or name == "scratch"],
    }
    return config.model_copy(update=changes)


def _publish(config: TaskConfig, runs: Mapping[int, TaskConfig]) -> SeedsResult:
    """Join the results of all seeds and measure their ensemble."""
    records = [json.loads((run.output / run.marker).read_text("utf-8")) for run in runs.values()]
    task: FinetuneTask = config.implement()(config)
    examples = task.read()
    parts = {
        part: {
            system: _over_seeds([record[part][system] for record in records if system in record[part]])
            for system in records[0][part]
        }
        for part in examples
        if part != "train"
    }
    if type(task).mean_prediction is not FinetuneTask.mean_prediction:
        for part, figures in _of_ensemble(config, task, examples, list(runs.values())).items():
            parts[part][ENSEMBLE] = figures
    record = {
        "task": config.name,
        "seeds": config.seeds,
        "figures": parts,
        "runs": {str(seed): run.output.name for seed, run in runs.items()},
    }
    with staged_directory(config.output, MARKER, config.overwrite, kind=KIND) as folder:
        for run in runs.values():
            shutil.copytree(run.output, folder / run.output.name, copy_function=link)
        (folder / MARKER).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
        (folder / RECIPE).write_text(to_yaml(config), "utf-8")
    remove_training(config.output)
    return SeedsResult(record, parts)


def _over_seeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = [name for name, value in found[0].items() if isinstance(value, float)]
    return {name: mean_and_interval([figures[name] for figures in found]) for name in numbers}


def _of_ensemble(
    config: TaskConfig, task: FinetuneTask, examples: Mapping[str, Sequence[Any]], runs: Sequence[TaskConfig]
) -> dict[str, dict[str, Any]]:
    """Figures of the mean of the predictions of all saved models, by part."""
    from finetune.pretrained import read_pretrained

    pretrained = read_pretrained(config.model, config.tokenizer_dir)
    models = [load_trained(run, task, pretrained, run.output) for run in runs]
    found: dict[str, dict[str, Any]] = {}
    for part in (part for part in examples if part != "train"):
        encoded = task.encode(pretrained, examples[part])
        predicted = zip(*(predict_all(task, model, encoded) for model in models))
        figures = task.figures(encoded, [task.mean_prediction(each) for each in predicted])
        numbers = {name: value for name, value in figures.items() if isinstance(value, float)}
        found[part] = {name: mean_and_interval([value]) for name, value in numbers.items()}
    return found
