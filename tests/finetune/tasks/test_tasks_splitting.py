"""Splits: no part is empty that need not be, labels are in their shares, and what has its side keeps it."""

from __future__ import annotations

from collections import Counter

import pytest

from finetune.tasks.labelled_texts import LabelledText
from finetune.tasks.splitting import limit, split

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def examples(count: int, labels: str = "ab", groups: int | None = None) -> list[LabelledText]:
    return [LabelledText(str(n), str(n), labels[n % len(labels)], f"g{n % (groups or count)}") for n in range(count)]


def sizes(parts: dict[str, list[LabelledText]]) -> list[int]:
    return [len(parts[part]) for part in SHARES]


@pytest.mark.parametrize("labels", ["ab", "abc", "aaab", "abcdefg"])
def test_of_twenty_texts_no_part_is_empty(labels: str) -> None:
    for seed in range(200):
        parts = split(examples(20, labels), SHARES, seed)
        assert sum(sizes(parts)) == 20 and sizes(parts)[1] in (1, 2, 3) and sizes(parts)[2] in (1, 2, 3), seed
        assert {e.label for e in parts["train"]} == set(labels), seed
    assert split(examples(20), SHARES, 1) != split(examples(20), SHARES, 2)


def test_labels_are_in_their_shares() -> None:
    for seed in range(20):
        parts = split(examples(40, "aaab"), SHARES, seed)
        assert [Counter(e.label for e in parts[part]) for part in SHARES] == [
            {"a": 24, "b": 8}, {"a": 3, "b": 1}, {"a": 3, "b": 1},
        ]  # fmt: skip


def test_the_smallest_inputs() -> None:
    assert sizes(split(examples(4), SHARES, 0)) == [2, 1, 1]
    assert sizes(split(examples(3), SHARES, 0))[0] == 2, "each label trains"
    assert sizes(split(examples(2), SHARES, 0)) == [2, 0, 0], "there is nothing to spare"
    assert sizes(split(examples(12), {"train": 0.98, "validation": 0.01, "test": 0.01}, 0)) == [10, 1, 1]


def test_a_rare_label_among_many_texts_is_trained() -> None:
    rare = [LabelledText(f"r{n}", f"r{n}", "rare", f"r{n}") for n in range(3)]
    for seed in range(50):
        parts = split([*examples(1000), *rare], SHARES, seed)
        assert any(e.label == "rare" for e in parts["train"])
        assert [e for e in parts["test"] if e.label != "rare"] == split(examples(1000), SHARES, seed)["test"]


def test_groups_stay_together_whatever_the_order() -> None:
    for count, groups in ((60, 9), (3000, 500)):
        given = examples(count, "abc", groups)
        parts = split(given, SHARES, 3)
        found = [{e.group for e in parts[part]} for part in SHARES]
        assert sum(map(len, found)) == groups and all(found)
        again = split(given[::-1], SHARES, 3)
        assert all({e.id for e in parts[part]} == {e.id for e in again[part]} for part in SHARES)


def test_shares_that_rounding_could_lose() -> None:
    parts = split(examples(2000), {"train": 0.9, "validation": 0.1, "test": 0.0}, seed=0)
    assert len(parts["test"]) == 0 and 130 < len(parts["validation"]) < 270


def test_a_limit_keeps_a_text_of_each_label() -> None:
    given = [*examples(300, "a"), LabelledText("b", "b", "b", "b")]
    for seed in range(20):
        few = limit(given, 5, seed, each_label=True)
        assert len(few) == 5 and {e.label for e in few} == {"a", "b"}
        assert {e.id for e in few} - {e.id for e in limit(given, 5, seed)} <= {"b"}, "the others are those of before"
    assert limit(given, None, 0) is given
