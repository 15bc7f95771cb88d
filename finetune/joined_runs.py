"""What commands share that run a task several times: each run on all processes, done once, its files joined."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import yaml

from configs.errors import CheckpointError, UserError
from finetune.checkpoints import changed_settings
from finetune.run_task import run_task
from finetune.task_output import RECIPE
from finetune.tasks.base_config import TaskConfig
from pretrain.checkpoint.compatibility import table_of


def is_done(run: TaskConfig) -> bool:
    """Whether the run's result is complete.

    Raises:
        CheckpointError: it is, and was made with other settings.
    """
    if not (run.output / run.marker).is_file():
        return False
    saved = yaml.safe_load((run.output / RECIPE).read_text("utf-8"))
    changes = changed_settings(saved, run.model_dump(mode="json"))
    if changes:
        raise CheckpointError(
            f"was made with other settings\n{table_of(changes)}",
            where=run.output,
            expected=f"the same settings, another output, or {run.output.parent} removed to begin anew",
        )
    return True


def run_together(
    run: TaskConfig,
    log: Callable[[str], None],
    *,
    measures_test: bool = True,
    goes_on_after: Callable[[UserError], bool] = lambda error: False,
) -> UserError | None:
    """Run a task; the other processes wait until the first has measured it, and end with it.

    Args:
        run: everything that can be told.
        log: prints a line.
        measures_test: see `run_task`.
        goes_on_after: the errors after which all processes go on.

    Returns:
        such an error, on the processes that had it, else None.

    Raises:
        UserError: another one.
        SystemExit: with status INTERRUPTED, after a signal; with that of the first process, where it had an error.
    """
    from pretrain.checkpoint.ranks import Ranks

    problem: UserError | SystemExit | None = None
    try:
        run_task(run, log, measures_test=measures_test)
    except (UserError, SystemExit) as found:
        problem = found
    status, goes_on = 0, True
    if isinstance(problem, UserError):
        status, goes_on = int(problem.status), goes_on_after(problem)
    elif problem is not None:
        status, goes_on = int(problem.code or 0), False
    status, goes_on = Ranks().broadcast((status, goes_on))
    if goes_on and (problem is None or isinstance(problem, UserError)):
        return problem
    if problem is not None:
        raise problem
    raise SystemExit(status)


def link(source: str, target: str) -> str:
    """A second name for a file, or a copy where the file system has none; the first stays until all are there."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
