"""Labelled texts: split by hash, labels chosen, mistakes named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError, DataError, UserError
from configs.load import RECIPES, load_config
from finetune.batches import Order, by_length, share
from finetune.tasks.classify_config import ClassifyConfig, ClassifyData
from finetune.tasks.labelled_texts import Splits, load_splits, split


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int = 200, labels: tuple[str, ...] = ("a", "b", "c")) -> list[dict[str, Any]]:
    return [
        {"id": f"n{n}", "text": f"text {n}", "label": labels[n % len(labels)], "package": n % 17} for n in range(count)
    ]


def load(path: Path, **changes: Any) -> Splits:
    return load_splits(ClassifyData(**({"train": [str(path)], "split": (0.6, 0.2, 0.2)} | changes)), seed=5)


def ids(splits: Splits, part: str) -> set[str]:
    return {example.id for example in splits.parts[part]}


def test_every_text_is_on_one_side_whatever_the_order_of_the_lines(tmp_path: Path) -> None:
    given = rows()
    first = load(write(tmp_path / "a.jsonl", given))
    random.Random(0).shuffle(given)
    second = load(write(tmp_path / "b.jsonl", given))
    for part in first.parts:
        assert ids(first, part) == ids(second, part)
    assert sum(len(examples) for examples in first.parts.values()) == 200
    assert 90 < len(first.parts["train"]) < 150 and len(first.parts["test"]) > 20
    assert first.labels == ["a", "b", "c"]
    more = load(write(tmp_path / "c.jsonl", [*given, {"id": "new", "text": "new", "label": "a"}]))
    assert all(ids(first, part) <= ids(more, part) for part in first.parts)


def test_equal_texts_and_chosen_groups_stay_together(tmp_path: Path) -> None:
    twice = rows() + [row | {"id": f"again {row['id']}"} for row in rows()]
    path = write(tmp_path / "a.jsonl", twice)
    splits = load(path)
    texts = [{example.text for example in examples} for examples in splits.parts.values()]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    groups = [{e.group for e in examples} for examples in load(path, split_by="package").parts.values()]
    assert sum(map(len, groups)) == 17 and all(groups)


def test_own_files_are_taken_as_they_are(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows())
    test = write(tmp_path / "test.jsonl", [{"text": "t", "label": "b"}, {"text": "u", "label": "a"}])
    splits = load(train, test=[str(test)])
    assert [example.text for example in splits.parts["test"]] == ["t", "u"]
    assert splits.parts["test"][0].id.startswith("test.jsonl@")
    assert len(splits.parts["train"]) + len(splits.parts["validation"]) == 200


def test_limits_are_chosen_by_the_seed_not_by_position(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows())
    few = load(path, max_train_samples=30, max_eval_samples=10)
    assert [len(few.parts[part]) for part in ("train", "validation", "test")] == [30, 10, 10]
    every = load(path)
    assert ids(few, "train") < ids(every, "train")
    assert [e.id for e in few.parts["train"]] != [e.id for e in every.parts["train"]][:30]


def test_rare_and_unwanted_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*rows(), {"text": "rare", "label": "d"}, {"text": "rarer", "label": "e"}])
    assert load(path, min_label_count=2).left_out == 2
    assert load(path, labels=["c", "a"]).labels == ["c", "a"]
    numbers = write(tmp_path / "n.jsonl", [row | {"label": n % 2} for n, row in enumerate(rows())])
    assert load(numbers).labels == ["0", "1"]


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"label": None}, {}, "holds None"),
        ({"label": 1.5}, {}, "holds 1.5"),
        ({"label": " "}, {}, "a label: a string"),
        ({"text": " \n"}, {}, "n7: has an empty text"),
        ({"text": 3}, {}, "line 8"),
        ({}, {"label_field": "labels"}, "did you mean: label"),
        ({}, {"split_by": "pakage"}, "did you mean: package"),
        ({}, {"text_field": "txt"}, "the text field 'txt' (data.text_field names it)\n  did you mean: text"),
        ({}, {"labels": ["a", "bb"]}, "'bb' is the label of no training text"),
        ({}, {"labels": ["a", "a"]}, "twice"),
        ({}, {"labels": ["a"]}, "too few labels: 'a'"),
        ({}, {"min_label_count": 100}, "too few labels: none"),
        ({}, {"split": (1.0, 0.0, 0.0)}, "validation: has no examples"),
        ({}, {"max_train_samples": 2}, "fell into the training part"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], options: dict[str, Any], named: str) -> None:
    given = rows()
    given[7] |= change
    with pytest.raises(UserError) as caught:
        load(write(tmp_path / "a.jsonl", given), **options)
    assert named in str(caught.value)


def test_advice_is_what_classify_has(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"is empty\n  expected: at least one document$"):
        load(tmp_path / "empty.jsonl")
    # Of a table, not the missing text column is told, but that tables are not read.
    table = tmp_path / "a.csv"
    table.write_text("body,label\nx,y\n")
    with pytest.raises(DataError, match="is not JSON lines"):
        load(table)


def test_a_label_that_was_never_trained(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows())
    test = write(tmp_path / "test.jsonl", [{"text": "t", "label": "bb"}])
    with pytest.raises(DataError, match=r"data\.test: has the label 'bb'.*[\s\S]*expected"):
        load(train, test=[str(test)])


def test_other_files_than_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(DataError, match="not JSON lines"):
        load(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no such input"):
        load(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no examples"):
        load(tmp_path / "c.jsonl")


def test_shares_that_rounding_could_lose() -> None:
    from finetune.tasks.labelled_texts import LabelledText

    examples = [LabelledText(str(n), str(n), "a", str(n)) for n in range(2000)]
    parts = split(examples, {"train": 0.9, "validation": 0.1, "test": 0.0}, seed=0)
    assert len(parts["test"]) == 0 and 130 < len(parts["validation"]) < 270


def test_split_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        ClassifyData(train=["x"], split=(0.5, 0.1, 0.1))
    assert ConfigError is not DataError


LENGTHS = [(n * 37) % 50 + 1 for n in range(331)]


def test_an_epoch_has_every_example_once_and_the_next_another_order() -> None:
    order = Order(LENGTHS, 16, seed=1)
    epochs = [[order.step(number) for number in range(start, start + 21)] for start in (0, 21)]
    for batches in epochs:
        assert sorted(n for batch in batches for n in batch) == list(range(331))
        assert [len(batch) for batch in batches] == [16] * 20 + [11]
    assert epochs[0] != epochs[1]
    assert [Order(LENGTHS, 16, seed=1).step(n) for n in (30, 3)] == [order.step(30), order.step(3)]
    assert Order(LENGTHS, 16, seed=2).step(0) != order.step(0)


def test_lengths_within_a_batch_are_similar() -> None:
    spread = [max(LENGTHS[n] for n in batch) - min(LENGTHS[n] for n in batch) for batch in by_length(LENGTHS, 16)]
    assert max(spread) < 5
    order = Order(LENGTHS, 16, seed=1)
    waste = sum(max(LENGTHS[n] for n in b) * len(b) - sum(LENGTHS[n] for n in b) for b in map(order.step, range(20)))
    assert waste < 0.15 * sum(LENGTHS)


@pytest.mark.parametrize(("world", "micro"), [(1, 16), (2, 4), (4, 4), (1, 1)])
def test_ranks_and_micro_batches_cover_a_batch(world: int, micro: int) -> None:
    for batch in (list(range(16)), list(range(5))):
        parts = [share(batch, 16, rank, world, micro) for rank in range(world)]
        assert {(len(p), len(m)) for p in parts for m in p} == {(16 // world // micro, micro)}
        assert [n for p in parts for m in p for n in m if n >= 0] == batch


@pytest.mark.parametrize("recipe", sorted((RECIPES / "finetune").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_load(recipe: Path) -> None:
    config = load_config(ClassifyConfig, recipe)
    assert config.model == Path("runs/quickstart/gpt") and config.data.label_field in ("kind", "package")
