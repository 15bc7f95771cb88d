"""Which examples train, validate and test: by hash, so that a text keeps its side, and exactly where few are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import xxhash

PARTS = ("train", "validation", "test")
_FEWEST = 10
"""Groups of a label that the smallest part gets on average if it is left to chance; with less it might get none."""


class Example(Protocol):
    """What a split asks of an example."""

    @property
    def id(self) -> str:
        """Names it in the predictions."""
        ...

    @property
    def text(self) -> str:
        """What is read of it."""
        ...

    @property
    def label(self) -> str:
        """What is shared out evenly; the same for all where nothing is."""
        ...

    @property
    def group(self) -> str:
        """Examples of one group stay on one side of the split."""
        ...


AnyExample = TypeVar("AnyExample", bound=Example)


def split(examples: Iterable[AnyExample], shares: Mapping[str, float], seed: int) -> dict[str, list[AnyExample]]:
    """Share out examples, each group on one side; the same for every order of them.

    A group goes where its hash says, so that adding examples moves none of the others. Of a label with so few groups
    that a part might get none of them, each part gets its share of them exactly, the training part at least one; and no
    part is empty that can have an example.

    Args:
        examples: to be shared out.
        shares: of `train`, `validation`, `test`; need not sum to 1.
        seed: decides, together with the group.
    """
    examples = list(examples)
    total = sum(shares.values())
    used = {part: shares[part] / total for part in PARTS if shares.get(part, 0) > 0}
    places = {group: _unit_interval(f"split\0{seed}\0{group}") for group in {e.group for e in examples}}
    strata = _strata(examples)
    sides: dict[str, str] = {}
    few = {label: groups for label, groups in strata.items() if len(groups) * min(used.values()) < _FEWEST}
    for label, groups in strata.items():
        if label not in few:
            sides |= {group: _side(places[group], used) for group in groups}
    sides |= _share_out(few, used, places)
    _fill_empty(sides, used, strata, places)
    parts: dict[str, list[AnyExample]] = {part: [] for part in PARTS}
    for example in examples:
        parts[sides[example.group]].append(example)
    return parts


def limit(examples: list[AnyExample], count: int | None, seed: int, *, each_label: bool = False) -> list[AnyExample]:
    """At most `count` examples, chosen by hash, in their order.

    Args:
        examples: to choose from.
        count: None: all.
        seed: decides.
        each_label: whether one of each label comes first.
    """
    if count is None or len(examples) <= count:
        return examples
    order = sorted(range(len(examples)), key=lambda n: (_unit_interval(f"pick\0{seed}\0{examples[n].id}"), n))
    if each_label:
        first = {examples[n].label: n for n in reversed(order)}
        order.sort(key=lambda n: first[examples[n].label] != n)
    return [examples[n] for n in sorted(order[:count])]


def _strata(examples: Iterable[AnyExample]) -> dict[str, list[str]]:
    """Groups by their most frequent label, the labels in order."""
    labels: dict[str, Counter[str]] = {}
    for example in examples:
        labels.setdefault(example.group, Counter())[example.label] += 1
    strata: dict[str, list[str]] = {}
    for group, found in labels.items():
        strata.setdefault(min(found, key=lambda label: (-found[label], label)), []).append(group)
    return {label: strata[label] for label in sorted(strata)}


def _side(place: float, used: Mapping[str, float]) -> str:
    part = ""
    for part, share in used.items():  # noqa: B007 - the last one takes what rounding leaves
        place -= share
        if place < 0:
            break
    return part


def _share_out(
    strata: Mapping[str, Sequence[str]], used: Mapping[str, float], places: Mapping[str, float]
) -> dict[str, str]:
    """A part for each group: its share of each label, what rounding leaves over carried on to the next label."""
    sides: dict[str, str] = {}
    owed = dict.fromkeys(used, 0.0)
    for groups in strata.values():
        counts = dict.fromkeys(used, 0)
        for part, share in used.items():
            owed[part] += share * len(groups)
        for number in range(len(groups)):
            chosen = PARTS[0] if number == 0 and PARTS[0] in used else max(used, key=lambda part: owed[part])
            counts[chosen] += 1
            owed[chosen] -= 1
        ordered = iter(sorted(groups, key=lambda group: (places[group], group)))
        for part, count in counts.items():
            sides |= {next(ordered): part for _ in range(count)}
    return sides


def _fill_empty(
    sides: dict[str, str], used: Mapping[str, float], strata: Mapping[str, Sequence[str]], places: Mapping[str, float]
) -> None:
    """Give a part that got nothing a group of the label that trains with most, if that keeps another one."""
    for part in used:
        if part in sides.values():
            continue
        train = {label: [g for g in groups if sides[g] == PARTS[0]] for label, groups in strata.items()}
        most = max(train.values(), key=len, default=[])
        if len(most) > 1:
            sides[max(most, key=lambda group: (places[group], group))] = part


def _unit_interval(text: str) -> float:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) / 2**64
