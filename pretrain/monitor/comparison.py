"""Several runs side by side: what came out, and which settings differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from pretrain.monitor import wording
from pretrain.monitor.metrics_file import FILE_NAME, read_metrics
from pretrain.monitor.summary import RunFigures, figures_of

# Where a run writes and what it logs change nothing of what it learns.
_NO_SETTING = ("output", "output_dir", "monitor.")  # the second in older runs
_ABSENT = "-"


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs.

    Attributes:
        directory: its output directory, as it was given.
        config: of its last session.
        records: all of its metrics file.
        steps: its `train` records.
        figures: its sums and its evaluations.
    """

    directory: Path
    config: Mapping[str, Any]
    records: Sequence[dict[str, Any]]
    steps: Sequence[Mapping[str, Any]]
    figures: RunFigures


def read_run(directory: Path) -> ComparedRun:
    """What a run's metrics file says.

    Raises:
        DataError: if it has no training records.
    """
    records = list(read_metrics(directory / FILE_NAME))
    steps = [record for record in records if record["kind"] == "train"]
    sessions = [record for record in records if record["kind"] == "run"]
    if not steps or not sessions:
        raise DataError("has no training records", where=directory / FILE_NAME, expected="the output of a run")
    config = sessions[-1]["config"]
    tests = config["data"]["test"] or ("test",)
    return ComparedRun(directory, config, records, steps, figures_of(records, list(tests)))


def comparison_rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """The figures, then the settings that are not the same in all runs; each a label and a value for each run.

    Raises:
        ConfigError: if there are fewer than two runs, or one is given twice.
    """
    places = [run.directory.resolve() for run in runs]
    if len(set(places)) < max(2, len(places)):
        raise ConfigError(
            f"{len(places)} runs were given, {len(set(places))} of them different",
            where="compare",
            expected="the output of two runs or more, each once",
        )
    rows = [
        ("step", [f"{run.steps[-1]['step']:,}" for run in runs]),
        ("tokens", [wording.count(run.steps[-1]["consumed_tokens"]) for run in runs]),
        ("training loss", [_loss(run.steps[-1]["loss"]) for run in runs]),
    ]
    for name in dict.fromkeys(name for run in runs for name in run.figures.last):
        if any(name in run.figures.best for run in runs):
            rows.append((f"{name}, best", [_best(run.figures.best.get(name)) for run in runs]))
        rows.append((f"{name}, last", [_loss((run.figures.last.get(name) or {}).get("loss")) for run in runs]))
    speeds = [run.figures.tokens_per_s for run in runs]
    rows += [
        ("tokens/s", [_ABSENT if speed is None else wording.count(speed) for speed in speeds]),
        ("MFU", [wording.share(run.figures.mfu) for run in runs]),
        ("time", [wording.seconds(run.figures.time_s) for run in runs]),
    ]
    return rows + differing_settings([run.config for run in runs])


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The dotted keys whose values are not the same in all configs, with the value in each."""
    flat = [_flat(config) for config in configs]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if not key.startswith(_NO_SETTING)]
    values = {key: [_ABSENT if key not in one else str(one[key]) for one in flat] for key in keys}
    return [(key, found) for key, found in values.items() if len(set(found)) > 1]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        inner = isinstance(value, Mapping) and bool(value)
        found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def _loss(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.4f}"


def _best(record: Mapping[str, Any] | None) -> str:
    return _ABSENT if record is None else f"{record['loss']:.4f} at {record['step']:,}"
