"""What a search may try, and which settings its trials have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.load import load_config
from finetune.search.space import check_space, grid, with_values
from finetune.search.study import trial_config
from finetune.tasks.classify_config import ClassifyConfig
from tests.finetune.finetune_texts import classify_config


def config(tmp_path: Path, space: dict[str, Any], **search: Any) -> ClassifyConfig:
    return classify_config(tmp_path, "out", search={"space": space, **search})


def test_the_command_line_says_it_as_a_recipe_does(tmp_path: Path) -> None:
    given = [f"output={tmp_path / 'o'}", f"model={tmp_path}", "data.train_texts=a.jsonl", "search.sampler=random"]
    nested = ["search.space.optimizer.lr={low: 1e-5, high: 1e-3, log: true}", "search.space.training.batch_size=[8,16]"]
    whole = ["search.space={optimizer.lr: {low: 1e-5, high: 1e-3, log: true}, training.batch_size: [8, 16]}"]
    one, other = (load_config(ClassifyConfig, None, [*given, *texts]) for texts in (nested, whole))
    assert one == other and one.search is not None
    assert list(one.search.space) == ["optimizer.lr", "training.batch_size"] and one.search.trials == 20


def test_a_trial_is_the_task_with_some_values(tmp_path: Path) -> None:
    found = config(tmp_path, {"method.name": ["full", "lora"], "method.r": [4, 8], "optimizer.lr": [0.1, 0.01]})
    made = trial_config(found, 7, {"method.r": 8, "method.name": "lora", "optimizer.lr": 1e-05})
    assert made.method.name == "lora" and made.method.r == 8 and made.search is None  # type: ignore[attr-defined]
    assert made.optimizer.lr == 1e-5 and made.optimizer.schedule == found.optimizer.schedule == "linear"
    assert made.output == tmp_path / "out.training" / "trial-0007" and made.baselines == []
    assert with_values(found, {"optimizer.name": "lion"}).optimizer.lr == found.optimizer.lr


def test_keys_of_a_kind_count_where_it_is_chosen(tmp_path: Path) -> None:
    found = config(tmp_path, {"method.r": [4, 8], "method.name": ["full", "lora"]}, sampler="grid")
    check_space(found)
    assert grid(found) == [
        {"method.name": "full"},
        {"method.r": 4, "method.name": "lora"},
        {"method.r": 8, "method.name": "lora"},
    ]


@pytest.mark.parametrize(
    ("space", "sampler", "named"),
    [
        ({"data.split": ["even"]}, "tpe", r"space has data\.split, which is the same in all trials"),
        ({"seed": [1, 2]}, "tpe", "space has seed"),
        ({"optimizer.lr": {"low": 1, "high": 0.1}}, "tpe", r"low is 1 and high is 0\.1"),
        ({"optimizer.lr": {"low": 0, "high": 0.1, "log": True}}, "tpe", "expected a low above 0"),
        ({"optimizer.lr": {"low": 0.01, "high": 0.1}}, "grid", "is a range and sampler is grid"),
        ({"optimizer.lr": [0.1, 0.1]}, "tpe", "expected different values"),
        ({}, "tpe", "at least 1"),
    ],
)
def test_what_no_search_can_be_is_refused(tmp_path: Path, space: dict[str, Any], sampler: str, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        config(tmp_path, space, sampler=sampler)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"optimizer.lrr": [0.1]}, r"optimizer\.lrr"),
        ({"training.batch_size": [16, "many"]}, r"(?s)search\.space\.training\.batch_size: cannot be 'many'"),
        ({"training.dropout": {"low": 0.0, "high": 1.5}}, r"search\.space\.training\.dropout: cannot be 1\.5"),
        ({"method.r": [4]}, r"method\.r"),
        ({"method.name": ["full", "loora"]}, r"(?s)cannot be 'loora'.*lora"),
    ],
)
def test_what_the_task_cannot_have_is_told_before_the_first_trial(
    tmp_path: Path, space: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        check_space(config(tmp_path, space))


def test_seeds_and_a_search_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="expected the best settings' seeds after it"):
        classify_config(tmp_path, "out", seeds=[1], search={"space": {"optimizer.lr": [0.1]}})
