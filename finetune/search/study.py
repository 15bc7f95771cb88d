"""The trials of a search, one after the other: each chooses its settings by those before, and is an ordinary run.

```
OUTPUT.training/trial-0003/            a complete result, as a run of the task writes it, but for the test part
OUTPUT.training/trial-0003.json        what became of it
OUTPUT.training/trial-0004.training/   what the training that is under way goes on from
```

What a trial chooses follows from the search's seed, its number and the outcomes before it: a search that was killed
goes on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, ExitStatus, UserError
from configs.extras import install_command
from data_prep.storage.replaceable import check_replaceable
from finetune.joined_runs import is_done, run_together
from finetune.search.outcomes import (
    TrialOutcome,
    outcome_of_error,
    outcome_of_run,
    save_outcome,
    saved_outcome,
    trial_name,
)
from finetune.search.results import KIND, MARKER, SearchResult, publish
from finetune.search.space import check_space, grid, sampler, search_of, suggest, with_values
from finetune.stopping import tidy_when_stopped
from finetune.task_output import refuse_foreign_training, training_directory
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    import optuna


def run_search(config: TaskConfig, log: Callable[[str], None] = print) -> SearchResult | None:
    """Run the trials of a task's search; None on all processes but the first.

    Trials whose results are complete are not run again: the same call goes on after a stop or a kill.

    Raises:
        UserError: a setting that cannot be tried, no trial with a result, or an earlier call's trials had others.
        SystemExit: with status INTERRUPTED, after a signal.
    """
    if search_of(config).sampler != "grid" and find_spec("optuna") is None:
        raise ConfigError(
            "needs optuna, which is not installed",
            where="search.sampler",
            expected=f"grid, or {install_command('finetune')}",
        )
    check_space(config)
    check_replaceable(config.output, MARKER, config.overwrite, kind=KIND)
    refuse_foreign_training(config.output)
    from pretrain.engine.task_engine import task_processes

    with tidy_when_stopped(ExitStatus.INTERRUPTED), task_processes() as launch:
        told = log if launch.rank == 0 else lambda line: None
        outcomes, is_first = _trials(config, told, is_first=launch.rank == 0), launch.rank == 0
    return publish(config, outcomes) if is_first else None


def trial_config(config: TaskConfig, number: int, values: Mapping[str, Any]) -> TaskConfig:
    """The settings of a trial's run.

    Raises:
        ConfigError: the values do not go together.
    """
    own = {**config.placed_beside(), "output": training_directory(config.output) / trial_name(number)}
    return with_values(config, values).model_copy(update={**own, "overwrite": False, "baselines": []})


def _trials(config: TaskConfig, log: Callable[[str], None], *, is_first: bool) -> list[TrialOutcome]:
    """Run all trials. Collective; the outcomes are known to the first process only."""
    from pretrain.checkpoint.ranks import Ranks

    search, outcomes = search_of(config), list[TrialOutcome]()
    combinations = grid(config) if search.sampler == "grid" else None
    count = search.trials if combinations is None else min(search.trials, len(combinations))
    study = _study(config) if is_first and combinations is None else None
    for number in range(count):
        values: dict[str, Any] = combinations[number] if combinations is not None else {}
        trial: optuna.Trial | None = None
        if study is not None:
            study.sampler = sampler(config, number)
            trial = study.ask()
            values = suggest(config, trial)
        values = Ranks().broadcast(values)
        told = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
        log(f"trial {number + 1}/{count}: {told}")
        outcome = _trial(config, number, values, log, is_first=is_first)
        if outcome is None:
            continue
        outcomes.append(outcome)
        log(
            f"  {config.training.select_by} {outcome.figure:.4f}"
            if outcome.figure is not None
            else f"  {outcome.reason}"
        )
        if study is not None and trial is not None:
            _tell(study, trial, outcome.figure)
    return outcomes


def _trial(
    config: TaskConfig, number: int, values: Mapping[str, Any], log: Callable[[str], None], *, is_first: bool
) -> TrialOutcome | None:
    """Run a trial, unless its outcome is there. Collective; None on all processes but the first."""
    from pretrain.checkpoint.ranks import Ranks

    try:
        run = trial_config(config, number, values)
    except ConfigError as error:  # the same on every process
        return outcome_of_error(number, values, config, error) if is_first else None
    # Every process looks: one that is refused must not leave the others waiting.
    known, done = saved_outcome(number, run, config.output), is_done(run)
    known, done = Ranks().broadcast((known, done))
    if known is not None:
        log("  its result is complete")
        return known if is_first else None
    problem = None
    if not done:
        problem = run_together(run, log, measures_test=False, goes_on_after=_is_of_the_trial)
    if not is_first:
        return None
    if problem is None:
        outcome = outcome_of_run(number, values, run)
    else:
        outcome = outcome_of_error(number, values, run, problem)
    save_outcome(outcome, config.output)
    return outcome


def _is_of_the_trial(error: UserError) -> bool:
    """Whether other settings may do without this error: it is no full disk."""
    return error.status == ExitStatus.DIVERGED or isinstance(error, ConfigError | DataError)


def _study(config: TaskConfig) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    highest = config.selects[config.training.select_by] == "highest"
    return optuna.create_study(direction="maximize" if highest else "minimize")


def _tell(study: optuna.Study, trial: optuna.Trial, figure: float | None) -> None:
    import optuna

    if figure is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, figure)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
