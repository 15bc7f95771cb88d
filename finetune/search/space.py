"""The settings of each trial: what is chosen, and the task's config with it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.kinds import chosen_fields
from configs.load import build_config
from finetune.search.config import SearchConfig, SearchRange, Tried
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    import optuna

FIRST_AT_RANDOM = 5
"""Trials before the estimator has enough to go by; not a share of all, so that a search can be made longer."""


def search_of(config: TaskConfig) -> SearchConfig:
    """The section on the search of a task that has one."""
    assert config.search is not None
    return config.search


def with_values(config: TaskConfig, values: Mapping[str, Any]) -> TaskConfig:
    """The task with some settings changed, without its search.

    Raises:
        ConfigError: it cannot have them.
    """
    base = config.model_dump(mode="json") | {"search": None}
    # A kind is chosen before its own keys are said.
    keys = sorted(values, key=lambda key: not key.endswith(".name"))
    changes = [f"{key}={json.dumps(values[key])}" for key in keys]
    with contextlib.redirect_stderr(io.StringIO()):  # of each trial it would say which keys another kind has not
        return build_config(type(config), base, Path("search.space"), changes)


def check_space(config: TaskConfig) -> None:
    """Refuse a value that the task cannot have, before the first trial: each alone, kinds of sections first.

    Raises:
        ConfigError: names the key and the value.
    """
    space = search_of(config).space
    for key, tried in space.items():
        choices = [tried.low, tried.high] if isinstance(tried, SearchRange) else tried
        kinds = [values for values in _kinds(config, space, key) if _has(config, values, key)]
        if not kinds:
            with_values(config, {key: choices[0]})  # says what there is in its place
        for value in choices:
            for values in kinds[:1]:
                try:
                    with_values(config, {**values, key: value})
                except ConfigError as error:
                    raise ConfigError(
                        f"cannot be {value!r}: {error.problem}",
                        where=f"search.space.{key}",
                        expected=error.expected,
                        nearest=error.nearest,
                    ) from None


def grid(config: TaskConfig) -> list[dict[str, Any]]:
    """All combinations of the lists; a key that the chosen kind does not have makes none."""
    space = search_of(config).space
    lists = [tried for tried in space.values() if isinstance(tried, list)]
    found: list[dict[str, Any]] = []
    for chosen in itertools.product(*lists):
        values = dict(zip(space, chosen))
        kept = {key: value for key, value in values.items() if _has(config, values, key)}
        if kept not in found:
            found.append(kept)
    return found


def suggest(config: TaskConfig, trial: optuna.Trial) -> dict[str, Any]:
    """What the sampler chooses for a trial, kinds of sections first."""
    space = search_of(config).space
    values: dict[str, Any] = {}
    for key in sorted(space, key=lambda key: (not key.endswith(".name"), key)):
        if _has(config, values, key):
            values[key] = _suggested(trial, key, space[key])
    return values


def _suggested(trial: optuna.Trial, key: str, tried: Tried) -> Any:
    if isinstance(tried, list):
        # The place in the list: its values may be anything, the sampler takes only texts and numbers.
        return tried[trial.suggest_categorical(key, range(len(tried)))]
    if tried.is_whole:
        return trial.suggest_int(key, int(tried.low), int(tried.high), log=tried.log)
    return trial.suggest_float(key, tried.low, tried.high, log=tried.log)


def sampler(config: TaskConfig, number: int) -> optuna.samplers.BaseSampler:
    """What chooses the values of a trial: a function of the seed, its number and the trials before it."""
    import optuna

    search = search_of(config)
    seed = (search.seed * 1_000_003 + number) % 2**32
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_AT_RANDOM)


def _sections(config: TaskConfig, key: str) -> Iterator[tuple[str, Any]]:
    """The section that a key is of, where its class is chosen by name: its path, and the kinds."""
    for path, kinds in chosen_fields(type(config)):
        before = ".".join(path)
        if key.startswith(f"{before}.") and key != f"{before}.name":
            yield before, kinds


def _has(config: TaskConfig, values: Mapping[str, Any], key: str) -> bool:
    """Whether the task has a key when it has these values; a key of no such section it has, or an error says so."""
    for section, kinds in _sections(config, key):
        name = values.get(f"{section}.name", getattr(_at(config, section), "name", kinds.default))
        return key.removeprefix(f"{section}.").partition(".")[0] in kinds.declaration(name).model_fields
    return True


def _kinds(config: TaskConfig, space: Mapping[str, Tried], key: str) -> Sequence[dict[str, Any]]:
    """The kinds that the section of a key may be of in the trials."""
    for section, _ in _sections(config, key):
        names = space.get(f"{section}.name")
        if isinstance(names, list):
            return [{f"{section}.name": name} for name in names]
    return [{}]


def _at(config: TaskConfig, path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part)
    return found
