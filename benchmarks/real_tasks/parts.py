"""Examples -> train.jsonl, validation.jsonl and test.jsonl, split by group: nothing of a group is in two parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

PARTS = ("train", "validation", "test")
_TENTHS = ("train",) * 8 + ("validation", "test")


@dataclass(frozen=True)
class GroupedExample:
    """A record of a task.

    Attributes:
        group: what it was taken from (an article, a page, a package): all of it is in one part, for every task alike.
        text: what the model reads; of equal ones the first is kept.
        record: as the task reads it.
    """

    group: str
    text: str
    record: dict[str, Any]


def part_of(group: str) -> str:
    """The part of a group: eight in ten train, by the hash of its name."""
    return _TENTHS[_number(group) % 10]


def shared_out(examples: Iterable[GroupedExample], limits: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """The records of each part, in an order that the hashes of their texts decide.

    Args:
        examples: from anywhere.
        limits: how many records a part has at most.
    """
    first = {" ".join(example.text.split()): example for example in reversed(list(examples))}
    ordered = sorted(first, key=_number)
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for text in ordered:
        part = found[part_of(first[text].group)]
        part.append(first[text].record)
    return {part: records[: limits.get(part)] for part, records in found.items()}


def write_parts(parts: Mapping[str, list[dict[str, Any]]], folder: Path) -> None:
    """Write a file of JSON lines for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, records in parts.items():
        lines = [orjson.dumps({"id": f"{part}-{number}", **record}) for number, record in enumerate(records)]
        (folder / f"{part}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def read_part(folder: Path, part: str) -> list[dict[str, Any]]:
    """The records of a part."""
    return [orjson.loads(line) for line in (folder / f"{part}.jsonl").read_bytes().splitlines()]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
