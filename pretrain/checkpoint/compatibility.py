"""Compares the run that saved a checkpoint with the run that is to continue from it.

What decides the course of the run (model, data, tokenizer, seed, batch size, precision, optimizer) must be the same or
be accepted by name. What does not (layout, micro-batch size, paths, intervals, monitoring, the run's length) is free.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.columns import to_left, widest
from configs.errors import CheckpointError, nearest
from configs.kinds import Kinds, Named
from pretrain.checkpoint.kept_states import state_changes
from pretrain.config import RunConfig
from pretrain.config.kinds import FAMILIES, NETWORK_METHODS, OBJECTIVES, OPTIMIZERS

TRAINING_KEYS = ("global_batch_size", "batch_ramp", "precision")
TOLD_ELSEWHERE = ("seed", "seq_length", "tokenizer")
"""Keys of the data's fingerprint that the config and the tokenizer's fingerprint tell already."""
NEVER_ACCEPTED = ("optimizer.name",)
"""Changes that no checkpoint can serve: another optimizer would read the states of this one as its own. Others that
need states which the checkpoint lacks are found by asking the optimizer."""
LINE_CHARACTERS = 60


def check_compatible(
    saved: Mapping[str, Any],
    config: RunConfig,
    data_fingerprint: Mapping[str, Any] | None,
    tokenizer_fingerprint: str | None,
    allow_changes: Sequence[str] = (),
    where: Path | None = None,
    *,
    reads_states: bool = True,
) -> list[str]:
    """Refuse to continue a run as another one.

    Args:
        saved: metadata of the checkpoint.
        config: the run that is asked for.
        data_fingerprint: what decides its sample order.
        tokenizer_fingerprint: what its token ids mean.
        allow_changes: keys whose change is accepted; a section's name accepts all of its keys.
        where: the checkpoint, for the message.
        reads_states: whether the states of the optimizer are read beside the weights.

    Returns:
        a line for each change that was accepted.

    Raises:
        CheckpointError: there are changes that are not accepted: lists key, saved value, value now, and how to accept;
            or changes that cannot be: the optimizer needs states that the checkpoint lacks.
    """
    changes = find_changes(saved, config, data_fingerprint, tokenizer_fingerprint)
    if "data.train" in changes:
        changes["data.train"] = _mixtures(saved, config, *changes["data.train"])
    dropped = _check_states(saved, config, changes, where) if reads_states else {}
    accepted = {key for key in changes if any(key == name or key.startswith(f"{name}.") for name in allow_changes)}
    refused = {key: values for key, values in changes.items() if key not in accepted}
    if refused:
        idle = [n for n in allow_changes if not any(key == n or key.startswith(f"{n}.") for key in changes)]
        hints = [f"{name} -> {close}" for name in idle if (close := nearest(name, refused))]
        names = ",".join([*allow_changes, *refused])
        lost = "".join(f"\n{key}: {dropped[key]}" for key in refused if key in dropped)
        raise CheckpointError(
            f"was saved by another run at step {saved.get('step')}; these would change its course\n"
            f"{table_of(refused)}{lost}",
            where=where or "checkpoint",
            expected=f"the saved values, or another output; to go on anyway: checkpoint.allow_changes=[{names}]",
            nearest="; ".join(hints) or None,
        )
    lines = {key: f"{key}: {_told(changes[key][0])} -> {_told(changes[key][1])}" for key in sorted(accepted)}
    return [f"{line}; {dropped[key]}" if key in dropped else line for key, line in lines.items()]


def _check_states(
    saved: Mapping[str, Any], config: RunConfig, changes: Mapping[str, tuple[Any, Any]], where: Path | None
) -> dict[str, str]:
    """Refuse changes for which the checkpoint lacks states of the optimizer.

    Returns:
        what becomes of its states, by each key that drops some.

    Raises:
        CheckpointError: says which are lacking, and that the weights can be started from.
    """
    impossible, why = sorted(changes.keys() & set(NEVER_ACCEPTED)), "the states of one optimizer are not another's"
    dropped: dict[str, str] = {}
    if not impossible:
        keys = [key.removeprefix("optimizer.") for key in changes if key.startswith("optimizer.")]
        before = (saved.get("config") or {}).get("optimizer") or {}
        # No state depends on how many ids there are.
        model = config.model.model_copy(update={"vocab_size": config.model.vocab_size or 1})
        found = state_changes(before, config.optimizer, list(config.method.trained_parameters(model)), keys)
        impossible = [f"optimizer.{key}" for key in sorted(found.lacking)]
        states = sorted({state for names in found.lacking.values() for state in names})
        why = f"the optimizer would need the state {', '.join(states)}, which the checkpoint lacks"
        dropped = {
            f"optimizer.{key}": f"the checkpoint's state {', '.join(names)} is dropped"
            for key, names in found.dropped.items()
        }
    if impossible:
        values = ", ".join(f"{key}={_told(changes[key][0])}" for key in impossible)
        weights = "the run" if where is None else str(where.parent if where.name == "checkpoints" else where)
        raise CheckpointError(
            f"was saved by another run at step {saved.get('step')}; no run can go on with this change: {why}\n"
            f"{table_of({key: changes[key] for key in impossible})}",
            where=where or "checkpoint",
            expected=f"{values}; or start_from={weights} and another output, which takes the weights alone",
        )
    return dropped


def find_changes(
    saved: Mapping[str, Any],
    config: RunConfig,
    data_fingerprint: Mapping[str, Any] | None,
    tokenizer_fingerprint: str | None,
) -> dict[str, tuple[Any, Any]]:
    """Every key that decides the course of the run and differs: key -> (saved value, value now)."""
    old, new = saved.get("config") or {}, config.model_dump(mode="json")
    pairs = {"seed": (old.get("seed"), new["seed"])}
    old_model = saved.get("model") or old.get("model") or {}
    for section, kinds, before, now in (
        ("model", FAMILIES, old_model, config.model),
        ("method", NETWORK_METHODS, old.get("method") or {}, config.method),
        ("objective", OBJECTIVES, old.get("objective") or {}, config.objective),
        ("optimizer", OPTIMIZERS, old.get("optimizer") or {}, config.optimizer),
    ):
        pairs |= {f"{section}.{key}": pair for key, pair in _pairs(kinds, before, now).items()}
    for key in config.objective.evaluation_keys:
        pairs.pop(f"objective.{key}", None)
    for key in config.model.drawing_keys:
        pairs.pop(f"model.{key}", None)
    if config.model.vocab_size is None:
        # Not known before the corpus is; the tokenizer's fingerprint tells.
        pairs.pop("model.vocab_size", None)
    training = old.get("training") or {}
    pairs |= {f"training.{key}": (training.get(key), new["training"][key]) for key in TRAINING_KEYS}
    old_data, new_data = saved.get("data_fingerprint") or {}, data_fingerprint or {}
    data_keys = [key for key in (*old_data, *new_data) if key not in TOLD_ELSEWHERE]
    pairs |= {f"data.{key}": (old_data.get(key), new_data.get(key)) for key in data_keys}
    pairs["tokenizer"] = (saved.get("tokenizer_fingerprint"), tokenizer_fingerprint)
    return {key: (before, now) for key, (before, now) in pairs.items() if _plain(before) != _plain(now)}


def _pairs(kinds: Kinds, before: Mapping[str, Any], now: Named) -> dict[str, tuple[Any, Any]]:
    """(saved value, value now) of every key of a section that is chosen by name.

    A section that was saved before it had a name is of the default kind; a key that is younger than the checkpoint
    has the default that it behaved by then.
    """
    saved_name = before.get("name", kinds.default)
    if saved_name != now.name and not _is_same_kind(kinds, saved_name, now):
        return {"name": (saved_name, now.name)}
    old, new = _resolved(type(now), before), _resolved(type(now), now.model_dump(mode="json"))
    return {key: (_saved(old, key, type(now)), new[key]) for key in type(now).model_fields if key != "name"}


def _is_same_kind(kinds: Kinds, saved_name: str, now: Named) -> bool:
    """Whether another spelling, such as `module:Class` for a name, means the same declaration."""
    try:
        return kinds.declaration(saved_name) is type(now)
    except ValueError:
        return False  # a module that is not there any more


def _resolved(cls: type[Named], raw: Mapping[str, Any]) -> dict[str, Any]:
    """With what null stands for filled in, so that writing a default out is no change."""
    try:
        section = cls.model_validate({key: raw[key] for key in cls.model_fields if key in raw})
    except ValidationError:
        return dict(raw)
    return section.resolved()


def _saved(section: Mapping[str, Any], key: str, cls: type[Named]) -> Any:
    return section[key] if key in section else cls.model_fields[key].get_default(call_default_factory=True)


def _plain(value: Any) -> Any:
    """Compared as JSON: tuples are lists, durations are text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _mixtures(saved: Mapping[str, Any], config: RunConfig, before: Any, now: Any) -> tuple[list[str], list[str]]:
    """The corpora of two mixtures with their weights: of the checkpoint, and of the run that is asked for."""
    read = [str(entry.get("corpus")) for entry in before or []]
    named = ((saved.get("config") or {}).get("data") or {}).get("train") or []
    paths = dict(zip(read, (str(entry["corpus"]) for entry in named)))
    old = [f"{paths.get(corpus, corpus)} (weight {entry['weight']:g})" for corpus, entry in zip(read, named)]
    new = []
    for entry, mixed in zip(now or [], config.data.train):
        changed = str(mixed.corpus) in paths.values() and entry["corpus"] not in paths
        other = ", its content is another now" if changed else ""
        moved = paths.get(entry["corpus"], str(mixed.corpus))
        was = f", was {moved}" if moved != str(mixed.corpus) else ""
        new.append(f"{mixed.corpus} (weight {mixed.weight:g}{other}{was})")
    return old, new


def section_changes(kinds: Kinds, before: Mapping[str, Any], now: Named) -> dict[str, tuple[Any, Any]]:
    """Every key of a section that is chosen by name and differs from what was saved: key -> (saved value, now)."""
    return {key: pair for key, pair in _pairs(kinds, before, now).items() if _plain(pair[0]) != _plain(pair[1])}


def table_of(changes: Mapping[str, tuple[Any, Any]], columns: tuple[str, str] = ("saved", "now")) -> str:
    """A line for each changed key with its two values, below the headings `columns`."""
    rows = [(["key"], [columns[0]], [columns[1]])]
    rows += [([key], _lines(before), _lines(now)) for key, (before, now) in sorted(changes.items())]
    lines = [line for row in rows for line in zip_longest(*row, fillvalue="")]
    widths = widest(lines)
    return "\n".join(
        f"  {to_left(key, widths[0])}  {to_left(before, widths[1])}  {now}".rstrip() for key, before, now in lines
    )


def _lines(value: Any) -> list[str]:
    """A value as it stands in a table: all of it, a long one in several lines."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value or ["[]"]
    return textwrap.wrap(_told(value), LINE_CHARACTERS) or [""]


def _told(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return str(_plain(value))
