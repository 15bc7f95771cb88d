"""What became of each trial, as a file beside its result: what a search that was stopped or killed goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.errors import CheckpointError, ExitStatus, UserError
from data_prep.storage.publishing import staged_file
from finetune.checkpoints import changed_settings
from finetune.task_output import training_directory
from finetune.tasks.base_config import TaskConfig
from pretrain.checkpoint.compatibility import table_of


@dataclass(frozen=True)
class TrialOutcome:
    """What became of a trial.

    Attributes:
        number: from 0.
        values: what was chosen for it.
        state: whether it came to its end, diverged, or could not begin.
        figure: the validation figure that the search goes by; None where there is none.
        figures: all validation figures of the weights that were kept.
        best_step: when they were best.
        training_s: seconds of training.
        reason: why there is no figure.
        settings: all settings of its run.
    """

    number: int
    values: dict[str, Any]
    state: Literal["complete", "diverged", "refused"]
    figure: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    training_s: float = 0.0
    reason: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its files are called."""
        return trial_name(self.number)


def trial_name(number: int) -> str:
    """What the files of a trial are called."""
    return f"trial-{number:04d}"


def outcome_of_run(number: int, values: Mapping[str, Any], run: TaskConfig) -> TrialOutcome:
    """What a trial's complete result says: the validation figures of when its weights were best."""
    record = json.loads((run.output / run.marker).read_text("utf-8"))
    best = record["best_step"]
    row = next(
        row for row in record["history"] if row["step"] == best and f"validation_{run.training.select_by}" in row
    )
    figures = {key.removeprefix("validation_"): value for key, value in row.items() if key.startswith("validation_")}
    figure = figures[run.training.select_by]
    settings = run.model_dump(mode="json")
    return TrialOutcome(
        number, dict(values), "complete", figure, figures, best, record["training_s"], settings=settings
    )


def outcome_of_error(number: int, values: Mapping[str, Any], run: TaskConfig, error: UserError) -> TrialOutcome:
    """What is told of a trial that gave no result."""
    state: Literal["diverged", "refused"] = "diverged" if error.status == ExitStatus.DIVERGED else "refused"
    reason = error.render().splitlines()[0]
    return TrialOutcome(number, dict(values), state, reason=reason, settings=run.model_dump(mode="json"))


def save_outcome(outcome: TrialOutcome, output: Path) -> None:
    """Write it beside the trial's result; the file appears when it is complete."""
    path = _path(output, outcome.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n", "utf-8")


def saved_outcome(number: int, run: TaskConfig, output: Path) -> TrialOutcome | None:
    """The outcome of a trial that an earlier call came to the end of; None where there is none.

    Raises:
        CheckpointError: it was a trial of other settings.
    """
    path = _path(output, number)
    if not path.is_file():
        return None
    found = TrialOutcome(**json.loads(path.read_text("utf-8")))
    changes = changed_settings(found.settings, run.model_dump(mode="json"))
    if changes:
        raise CheckpointError(
            f"was a trial of other settings\n{table_of(changes)}",
            where=path,
            expected=f"the same settings and search, another output, or {path.parent} removed to begin anew",
        )
    return found


def _path(output: Path, number: int) -> Path:
    return training_directory(output) / f"{trial_name(number)}.json"
