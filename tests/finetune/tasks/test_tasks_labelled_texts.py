"""Labelled texts: split by hash, labels chosen, mistakes named."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError, DataError, UserError
from configs.load import RECIPES, load_config, read_yaml
from finetune.chat.config import InstructRunConfig
from finetune.tasks.classification_report import describe_texts
from finetune.tasks.classify_config import ClassifyConfig, ClassifyData
from finetune.tasks.encoded_texts import EncodedTexts
from finetune.tasks.kinds import TASKS
from finetune.tasks.labelled_texts import Repeated, Splits, load_splits


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int = 200, labels: tuple[str, ...] = ("a", "b", "c")) -> list[dict[str, Any]]:
    return [
        {"id": f"n{n}", "text": f"text {n}", "label": labels[n % len(labels)], "package": n % 17} for n in range(count)
    ]


def load(path: Path, **changes: Any) -> Splits:
    return load_splits(ClassifyData(**({"train_texts": [str(path)], "split": (0.6, 0.2, 0.2)} | changes)), seed=5)


def ids(splits: Splits, part: str) -> set[str]:
    return {example.id for example in splits.parts[part]}


def test_every_text_is_on_one_side_whatever_the_order_of_the_lines(tmp_path: Path) -> None:
    given = rows(600)
    first = load(write(tmp_path / "a.jsonl", given))
    random.Random(0).shuffle(given)
    second = load(write(tmp_path / "b.jsonl", given))
    for part in first.parts:
        assert ids(first, part) == ids(second, part)
    assert sum(len(examples) for examples in first.parts.values()) == 600
    assert 310 < len(first.parts["train"]) < 410 and len(first.parts["test"]) > 20
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
    splits = load(train, test_texts=[str(test)])
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
        ({"label": 1.5}, {}, "holds 1.5"),
        ({"label": ["a"]}, {}, "a label: a string"),
        ({"text": 3}, {}, "line 8"),
        ({}, {"label_field": "labels"}, "did you mean: label"),
        ({}, {"split_by": "pakage"}, "did you mean: package"),
        ({}, {"text_field": "txt"}, "the text field 'txt' (data.text_field names it)\n  did you mean: text"),
        ({}, {"labels": ["a", "bb"]}, "'bb' is the label of no training text"),
        ({}, {"labels": ["a", "a"]}, "twice"),
        ({}, {"labels": ["a"]}, "too few labels: 'a'"),
        ({}, {"min_label_count": 100}, "too few labels: none"),
        ({}, {"split": (1.0, 0.0, 0.0)}, "validation_texts: has no examples"),
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
    table = tmp_path / "a.csv"
    table.write_text("body,label\nx,y\n")
    with pytest.raises(DataError, match=r"no column 'text', only body, label\n.*\(data\.text_field\)"):
        load(table)


def test_a_label_that_was_never_trained(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows())
    test = write(tmp_path / "test.jsonl", [{"text": "t", "label": "bb"}])
    with pytest.raises(DataError, match=r"data\.test_texts: has the label 'bb'.*[\s\S]*expected"):
        load(train, test_texts=[str(test)])


def test_files_that_hold_no_examples(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(DataError, match=r"is text without labels[\s\S]*CSV, TSV"):
        load(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no such input"):
        load(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no examples"):
        load(tmp_path / "c.jsonl")


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables_are_read_as_lines_of_json_are(tmp_path: Path, kind: str) -> None:
    given = [row | {"text": f'a "quoted", text\n{row["text"]}', "label": n % 2} for n, row in enumerate(rows(60))]
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), tmp_path / "a.parquet")
    else:
        with (tmp_path / f"a.{kind}").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(given[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(given)
    expected = load(write(tmp_path / "a.jsonl", given))
    options = {"quoting": "double"} if kind == "tsv" else {}
    if options:
        with pytest.raises(DataError, match=r"or data\.quoting=double where quotes enclose fields"):
            load(tmp_path / "a.tsv")
    assert load(tmp_path / f"a.{kind}", **options) == expected and expected.labels == ["0", "1"]


def test_labels_may_be_named_as_they_stand_in_the_lines(tmp_path: Path) -> None:
    for values, named in (((0, 1), ["1", "0"]), ((True, False), ["false", "true"])):
        path = write(tmp_path / "a.jsonl", [row | {"label": values[n % 2]} for n, row in enumerate(rows())])
        assert load(path, labels=list(reversed(values))).labels == named
        given = f"data.labels=[{','.join(str(value).lower() for value in reversed(values))}]"
        where = [f"output={tmp_path / 'x'}", f"model={tmp_path}", f"data.train_texts={path}", given]
        assert load_config(ClassifyConfig, None, where).data.labels == named
    with pytest.raises(ValueError, match="string"):
        ClassifyData(train_texts=["x"], labels=[0.5])  # type: ignore[list-item]


def test_texts_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    given = rows()
    given[7]["text"], given[8]["text"] = " \n", ""
    splits = load(write(tmp_path / "a.jsonl", given))
    assert list(splits.empty) == ["n7", "n8"] and sum(map(len, splits.parts.values())) == 198
    encoded = {"train": EncodedTexts([[1]], [0], 0, 0)}
    assert "left out    2 without text, the first n7" in list(describe_texts(splits, encoded))
    with pytest.raises(DataError, match="holds no examples"):
        load(write(tmp_path / "b.jsonl", [{"text": "", "label": "a"}]))


def test_texts_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    given = rows()
    given[7]["label"], given[8]["label"], given[9]["label"] = " ", None, ""
    splits = load(write(tmp_path / "a.jsonl", given))
    assert list(splits.unlabelled) == ["n7", "n8", "n9"] and sum(map(len, splits.parts.values())) == 197
    encoded = {"train": EncodedTexts([[1]], [0], 0, 0)}
    assert "left out    3 without a label, the first n7" in list(describe_texts(splits, encoded))
    table = tmp_path / "b.csv"
    table.write_text("text,label\nx,\n")
    with pytest.raises(DataError, match="holds no examples: 0 without text, 1 without a label"):
        load(table)


def test_records_that_cannot_be_used_are_counted_up_to_a_share(tmp_path: Path) -> None:
    given = [*rows(99), {"text": "x", "label": [1]}]
    path = write(tmp_path / "a.jsonl", given)
    with pytest.raises(DataError, match="a label: a string or a whole number"):
        load(path)
    splits = load(path, max_malformed_share=0.01)
    assert splits.malformed["train"].count == 1 and sum(map(len, splits.parts.values())) == 99
    told = list(describe_texts(splits, {"train": EncodedTexts([[1]], [0], 0, 0)}))
    assert any("1 records of data.train_texts that cannot be used, the first: " in line for line in told)
    with pytest.raises(DataError, match=r"1 records cannot be used, the first: [\s\S]*at most 0\.50%"):
        load(path, max_malformed_share=0.005)


def test_without_a_test_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows())
    splits = load(path, split=(0.8, 0.2, 0.0))
    assert list(splits.parts) == ["train", "validation"] == list(splits.counts())
    own = write(tmp_path / "b.jsonl", [{"text": "t", "label": "b"}])
    assert list(load(path, split=(0.8, 0.2, 0.0), test_texts=[str(own)]).parts) == ["train", "validation", "test"]


def test_a_file_that_trains_is_not_measured_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows())
    (tmp_path / "link.jsonl").symlink_to(path)
    for part, named in (("test", path), ("validation", tmp_path / "link.jsonl")):
        with pytest.raises(
            DataError, match=rf"data\.{part}_texts: is .*{named.name}, which data\.train_texts names, too"
        ):
            load(path, **{f"{part}_texts": [str(named)]})


def test_texts_known_from_another_part_are_told(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows(40))
    known = [{"id": f"k{n}", "text": f" text  {n}\n", "label": "a"} for n in range(5)]
    new = [{"id": f"new{n}", "text": f"another {n}", "label": "b"} for n in range(6)]
    test = write(tmp_path / "test.jsonl", [*new, *known])
    validation = write(tmp_path / "validation.jsonl", [*known[:2], *new[:3]])
    splits = load(train, test_texts=[str(test)], validation_texts=[str(validation)])
    assert list(splits.repeated) == [
        Repeated("validation", "train", 2, "k0"),
        Repeated("test", "train", 5, "k0"),
        Repeated("test", "validation", 3, "new0"),
    ]
    told = list(describe_texts(splits, {"train": EncodedTexts([[1]], [0], 0, 0)}))
    assert "note: 5 of 11 test texts stand in the train part word for word, the first k0" in told
    assert not load(train).repeated, "equal texts are on one side of a split"


def test_split_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        ClassifyData(train_texts=["x"], split=(0.5, 0.1, 0.1))
    assert ConfigError is not DataError


@pytest.mark.parametrize("recipe", sorted((RECIPES / "finetune").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_load(recipe: Path) -> None:
    if recipe.stem.startswith("instruct"):
        assert load_config(InstructRunConfig, recipe, ["model=x", "output=y"]).model.name == "x"
        return
    name = read_yaml(recipe).get("name", TASKS.default)
    config = load_config(TASKS.declaration(name), recipe)
    assert config.name == name and (name != "classify" or config.data.label_field in ("kind", "package"))  # type: ignore[attr-defined]
