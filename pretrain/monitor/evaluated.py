"""Which losses of a validation set may be compared: those of the samples that it has now.

The `run` record of each session describes its sets, and each `validation` record names the fingerprint of its own. A
record without one is older than that, and counts as one of the present set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pretrain.data.evaluation_set import FINGERPRINT, difference

Sets = Mapping[str, Mapping[str, Any]]
"""The descriptions of sets by name, as `RunData.evaluation_sets` has them."""
SETS = "evaluation_sets"
"""Where a `run` record holds them."""


def is_of_present_set(record: Mapping[str, Any], sets: Sets) -> bool:
    """Whether a `validation` record was measured on the set that has its name now."""
    if not sets:
        return True  # not known
    measured_on, name = record.get(FINGERPRINT), record["name"]
    return name in sets and measured_on in (None, sets[name][FINGERPRINT])


def sets_of_last_session(records: Iterable[Mapping[str, Any]]) -> Sets:
    """What the last session evaluated on; empty where that is not known."""
    runs = [record for record in records if record["kind"] == "run"]
    return runs[-1].get(SETS) or {} if runs else {}


def changed_sets(records: Iterable[Mapping[str, Any]], sets: Sets) -> list[str]:
    """A line for each of `sets` that is another one than where it was evaluated last."""
    known: dict[str, Mapping[str, Any]] = {}
    described: dict[str, Mapping[str, Any]] = {}
    last: dict[str, Mapping[str, Any]] = {}
    for record in records:
        if record["kind"] == "run":
            known |= record.get(SETS) or {}
        elif record["kind"] == "validation":
            last[record["name"]], described[record["name"]] = record, known.get(record["name"], {})
    return [
        f"the set {name!r} is another one than at step {record['step']}"
        f" ({difference(described[name], sets[name]) if described[name] else 'other samples'}):"
        " its earlier losses cannot be compared and do not count"
        for name, record in last.items()
        if name in sets and not is_of_present_set(record, sets)
    ]
