"""Which states a changed setting of an optimizer adds to what a checkpoint holds, and which it leaves unread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pretrain.config.optimizer import OptimizerConfig
from pretrain.models.parameter_table import ParameterSpec


@dataclass(frozen=True)
class StateChanges:
    """Names of states by the key of `optimizer` that changes them.

    Attributes:
        lacking: that the run's optimizer reads, and the checkpoint's did not keep.
        dropped: that the checkpoint's optimizer kept, and the run's does not.
    """

    lacking: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, tuple[str, ...]]


def state_changes(
    before: Mapping[str, Any], now: OptimizerConfig, table: Sequence[ParameterSpec], keys: Iterable[str]
) -> StateChanges:
    """What becomes of the states of a checkpoint, found by asking the optimizers what they keep of each parameter.

    Args:
        before: the section `optimizer` of the checkpoint, of the same kind.
        now: that of the run.
        table: the parameters that are trained.
        keys: in which the two differ.
    """
    cls = type(now)
    try:
        old = cls.model_validate({key: before[key] for key in cls.model_fields if key in before})
    except ValidationError:
        return StateChanges({}, {})  # of another version; reading the states themselves says what is missing
    held, wanted = _kept(old, table), _kept(now, table)
    changed = list(keys)
    alone = {key: _kept(old.model_copy(update={key: getattr(now, key)}), table) for key in changed}
    lacking = {key: kept - held for key, kept in alone.items() if kept - held}
    dropped = {key: held - kept for key, kept in alone.items() if held - kept}
    if wanted - held and not lacking:
        lacking = dict.fromkeys(changed, wanted - held)  # several keys together do it
    if not wanted - held:
        lacking = {}
    return StateChanges(_names(lacking), _names(dropped))


def _kept(optimizer: OptimizerConfig, table: Sequence[ParameterSpec]) -> set[tuple[str, str]]:
    """Names of the parameters, each with the name of a state that is kept of it."""
    return {(spec.name, state.name) for spec in table for state in optimizer.kept_of(spec)}


def _names(found: Mapping[str, set[tuple[str, str]]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(sorted({state for _, state in kept})) for key, kept in found.items()}
