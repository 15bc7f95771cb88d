"""A section whose default says more than its class does, such as the optimizer of a fine-tuning task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import jsonschema
import pytest

from configs.errors import ConfigError
from configs.kinds import ChosenBy, Kinds, Named
from configs.load import load_config
from configs.reference import schema_texts
from configs.section import Section
from finetune.tasks.classify_config import ClassifyConfig


class Warmup(Section):
    """A section in a section."""

    start: int
    steps: int = 10


class Quick(Named):
    """The kind that a task begins with."""

    name: str = "quick"
    lr: float
    decay: float = 0.1
    schedule: str = "cosine"
    warmup: Warmup = Warmup(start=5)


class Slow(Quick):
    """Another kind with the same keys."""

    name: str = "slow"


class Strange(Quick):
    """Another kind that declares one of the keys anew."""

    name: str = "strange"
    decay: float = 0.7


KINDS = Kinds("optimizer", {name.lower(): f"{__name__}:{name}" for name in ("Quick", "Slow", "Strange")}, "quick")


class Task(Section):
    """A config whose default section says more than its class."""

    optimizer: Annotated[Quick, ChosenBy(KINDS)] = Quick(lr=0.5, schedule="linear", warmup=Warmup(start=1, steps=2))
    warmup: Warmup = Warmup(start=7)


def test_a_section_that_is_given_in_part_keeps_the_defaults_of_the_default_section() -> None:
    config = load_config(Task, None, ["optimizer.decay=0.2", "optimizer.warmup.steps=9", "warmup.steps=3"])
    assert config.optimizer == Quick(lr=0.5, decay=0.2, schedule="linear", warmup=Warmup(start=1, steps=9))
    assert config.warmup == Warmup(start=7, steps=3)
    assert load_config(Task, None, ["optimizer.lr=1"]).optimizer.schedule == "linear"
    # Of another kind, the default section says nothing.
    other = load_config(Task, None, ["optimizer.name=slow", "optimizer.lr=1"]).optimizer
    assert (type(other), other.schedule, other.warmup) == (Slow, "cosine", Warmup(start=5))
    with pytest.raises(ConfigError, match=r"optimizer\.lr is missing"):
        load_config(Task, None, ["optimizer.name=slow"])


def test_of_another_kind_a_file_says_only_what_both_inherit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that the other kind declares anew may mean something else."""
    file = tmp_path / "task.yaml"
    file.write_text("optimizer: {lr: 0.3, decay: 0.2}")
    assert load_config(Task, file, ["optimizer.name=slow"]).optimizer == Slow(lr=0.3, decay=0.2)
    assert capsys.readouterr().err == ""
    other = load_config(Task, file, ["optimizer.name=strange"]).optimizer
    assert other == Strange(lr=0.3, decay=0.7)
    note = "optimizer.name=strange in place of quick: the file's optimizer.decay left out"
    assert note in capsys.readouterr().err


def test_the_tasks_keep_their_learning_rate_and_the_schema_knows_it() -> None:
    given = ["output=o", "model=m", "data.train_texts=t"]
    whole = load_config(ClassifyConfig, None, [*given, "name=classify"]).optimizer
    part = load_config(ClassifyConfig, None, [*given, "name=classify", "optimizer.weight_decay=0.1"]).optimizer
    assert part == whole.model_copy(update={"weight_decay": 0.1})
    schema = json.loads(schema_texts()["classify.json"])
    for optimizer, is_valid in (({"beta1": 0.8}, True), ({"beta1": "x"}, False)):
        config = {"output": "o", "model": "m", "data": {"train_texts": "t"}, "optimizer": optimizer}
        assert jsonschema.Draft202012Validator(schema).is_valid(config) == is_valid
