from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, ValidationError

from configs.durations import Duration
from configs.errors import ConfigError
from configs.explain import field_keys
from configs.load import find_recipe, load_config, read_yaml, to_yaml
from configs.section import Section


class Item(Section):
    path: Path
    weight: float = 1.0


class Optim(Section):
    lr: float = Field(gt=0)
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup: Duration = Duration(0, "steps")


class Ramp(Section):
    start: int


class Config(Section):
    name: str
    steps: int = Field(default=10, ge=1)
    flag: bool = False
    optimizer: Optim
    ramp: Ramp | None = None
    items: Annotated[list[Item], BeforeValidator(lambda v: v if isinstance(v, list) else [{"path": v}])] = []
    sets: dict[str, list[Item]] = {}
    named: dict[str, Item] = {}


GOOD = "name: a\noptimizer:\n  lr: 0.5\n"


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Config, path, overrides)


def problem(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert int(caught.value.status) == 2
    return caught.value.render()


def test_file_and_overrides_make_one_frozen_config(tmp_path: Path) -> None:
    config = load(
        tmp_path, GOOD, "steps=20", "optimizer.lr=3e-4", "flag=true", "optimizer.warmup=2k tokens", "ramp.start=4",
        "items=corpus/a", "sets={v: [{path: b, weight: 2}]}",
    )  # fmt: skip
    assert (config.steps, config.optimizer.lr, config.flag) == (20, 3e-4, True)
    assert config.optimizer.warmup == Duration(2000, "tokens")
    assert config.ramp == Ramp(start=4)
    assert config.items == [Item(path=Path("corpus/a"))] and config.sets["v"][0].weight == 2.0
    with pytest.raises(ValidationError):
        config.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("value", ["3e-4", "3E-4", "3.0e-4", "0.0003", "3e-04", "+3e-4"])
def test_every_way_to_write_a_small_number(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, GOOD, f"optimizer.lr={value}").optimizer.lr == pytest.approx(3e-4)
    assert load(tmp_path, f"name: a\noptimizer:\n  lr: {value}\n").optimizer.lr == pytest.approx(3e-4)


def test_later_overrides_win_and_null_clears(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "ramp: {start: 3}\n", "steps=5", "steps=6", "ramp=null")
    assert config.steps == 6 and config.ramp is None


def test_several_files_are_one_config_and_the_last_is_strongest(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(GOOD + "  schedule: linear\nsteps: 3\nitems: [{path: a}]\nsets: {a: [{path: x}]}\n")
    second.write_text("steps: 4\noptimizer: {lr: 0.25}\nitems: [{path: b}]\nsets: {b: [{path: y}]}\n")
    config = load_config(Config, [first, second], ["flag=true"])
    assert (config.name, config.steps, config.flag) == ("a", 4, True)
    assert (config.optimizer.lr, config.optimizer.schedule) == (0.25, "linear")
    assert [str(item.path) for item in config.items] == ["b"] and set(config.sets) == {"a", "b"}
    assert load_config(Config, [second, first]).steps == 3


def test_a_problem_names_the_file_that_said_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("name: a\noptimizer: {lr: 0.5}\nsteps: none\n")
    second.write_text("optimizer: {lr: -1}\nflag: perhaps\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Config, [first, second], ["flag=2"])
    told = caught.value.render()
    assert f"{first}: steps = 'none'" in told
    assert f"{second}: optimizer.lr = -1" in told
    assert "command line: flag = 2" in told


def test_an_override_can_hold_an_equals_sign(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "name=a=b").name == "a=b"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optimiser.lr=1", "optimizer"),
        ("optimizer.learning_rate=1", None),
        ("optimizer.shedule=linear", "optimizer.schedule"),
        ("lr=1", "optimizer.lr"),
        ("stepz=1", "steps"),
        ("ramp.strat=1", "ramp.start"),
        ("flags=true", "flag"),
        ("named.a.weigth=2", "named.a.weight"),
        ("named.a.pth=x", "named.a.path"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, key: str, meant: str | None) -> None:
    text = problem(tmp_path, GOOD, key)
    assert "command line: " in text and str(tmp_path) not in text
    assert f"unknown key {key.split('=')[0].replace('optimiser.lr', 'optimiser')} " in text
    if meant is not None:
        assert f"did you mean {meant}?" in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps=0", ["steps = 0", "greater than or equal to 1"]),
        ("steps=many", ["steps = 'many': expected a whole number, such as 10"]),
        ("steps=1.5", ["steps = 1.5", "a whole number"]),
        ("flag=perhaps", ["flag = 'perhaps'", "true or false"]),
        ("optimizer.lr=-1", ["optimizer.lr = -1", "greater than 0"]),
        ("optimizer.lr=null", ["optimizer.lr = None", "number"]),
        ("optimizer.schedule=cosin", ["optimizer.schedule = 'cosin'", "did you mean cosine?"]),
        ("optimizer.warmup=10", ["optimizer.warmup = 10", "number with its unit"]),
        ("optimizer.warmup=10 stepz", ["optimizer.warmup = '10 stepz'", "'1000 steps'"]),
        ("optimizer=3", ["optimizer = 3"]),
        ("items=[{weight: 2}]", ["items.0.path is missing"]),
        ("items=[{path: a, weight: x}]", ["items.0.weight = 'x'", "number"]),
        ("sets={v: [{path: a, wait: 1}]}", ["unknown key sets.v.0.wait (value 1)"]),
        ("ramp.start=x", ["ramp.start = 'x'", "a whole number"]),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(tmp_path: Path, override: str, expected: list[str]) -> None:
    text = problem(tmp_path, GOOD, override)
    assert text.startswith("command line: ") and str(tmp_path) not in text
    for part in expected:
        assert part in text, text
    assert "pydantic" not in text and "Traceback" not in text


def test_every_problem_is_in_the_one_message(tmp_path: Path) -> None:
    text = problem(tmp_path, "stepz: 3\noptimizer:\n  lr: 0\n  schedule: linaer\n")
    assert "4 problems" in text
    for part in ("name is missing", "unknown key stepz", "optimizer.lr = 0", "did you mean linear?"):
        assert part in text, text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "'steps' is not an override"),
        ("--steps", "did you mean: steps=VALUE"),
        ("=3", "'=3' is not an override\n  expected: key=value$"),
        ("4", "'4' is not an override\n  expected: key=value$"),
        ("/data/a.yaml", "is not an override\n  expected: key=value$"),
        ("gpt-tiny", "'gpt-tiny' is not an override\n  expected: key=value\n  did you mean: --config gpt-tiny$"),
        ("optimizer.lr: 4", "did you mean: optimizer.lr=4$"),
        ("optimizer.lr:", "did you mean: optimizer.lr=VALUE$"),
        ("steps=[1", "not valid YAML"),
        ("name.first=x", "name holds 'a' and has no keys below it"),
    ],
)
def test_an_override_that_is_none(tmp_path: Path, override: str, expected: str) -> None:
    assert re.search(expected, problem(tmp_path, GOOD, override))


def test_a_file_in_place_of_an_override_is_told_its_option(tmp_path: Path) -> None:
    text = problem(tmp_path, GOOD, str(tmp_path / "config.yaml"))
    assert text.endswith(f"did you mean: --config {tmp_path}/config.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: a\noptimizer:\n  lr: [1, 2\n", "line 4 column 1"),
        (b"name: a\n\tsteps: 1\n", "line 2 column 1"),
        (b"name: a: b\n", "line 1 column 8"),
        (b"- a\n- b\n", "holds a list"),
        (b"just text\n", "holds a str"),
        (b"name: \xff\n", "is not UTF-8 text (byte 6)"),
        (b"name: !!python/object/apply:os.system ['true']\n", "line 1"),
        (b"name: a\nsteps: 1\nname: b\n", "name is given twice"),
        (b"optimizer:\n  lr: 1\n  lr: 2\n", "line 3"),
    ],
)
def test_a_file_that_is_no_config_says_where(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    text = caught.value.render()
    assert str(path) in text and expected in text, text


def test_an_empty_file_is_an_empty_config(tmp_path: Path) -> None:
    assert "2 problems" in problem(tmp_path, "# nothing yet\n")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    assert "3 = 'x': Keys should be strings" in problem(tmp_path, GOOD + "3: x\n")


def test_a_recipe_is_found_by_name_path_or_nearly(tmp_path: Path) -> None:
    by_name = find_recipe("gpt-tiny", "pretrain")
    assert by_name.name == "gpt-tiny.yaml" and find_recipe(by_name, "pretrain") == by_name
    with pytest.raises(ConfigError, match="did you mean: gpt-tiny"):
        find_recipe("gpt-tiney", "pretrain")
    with pytest.raises(ConfigError, match="is a directory"):
        find_recipe(tmp_path, "pretrain")


def test_every_key_is_listed() -> None:
    assert list(field_keys(Config)) == [
        "name", "steps", "flag", "optimizer", "optimizer.lr", "optimizer.schedule", "optimizer.warmup", "ramp",
        "ramp.start", "items", "items.path", "items.weight", "sets",
            "named", "named.path", "named.weight",
    ]  # fmt: skip


names = st.text(min_size=1, max_size=20)
items = st.builds(Item, path=st.sampled_from([Path("a"), Path("b/c"), Path("/d e")]), weight=st.floats(0.1, 9))
configs = st.builds(
    Config,
    name=names,
    steps=st.integers(1, 10**12),
    flag=st.booleans(),
    optimizer=st.builds(
        Optim,
        lr=st.floats(min_value=1e-300, max_value=1e300, exclude_min=True),
        schedule=st.sampled_from(["cosine", "linear"]),
        warmup=st.builds(Duration, st.integers(0, 10**12), st.sampled_from(["steps", "tokens", "seconds"])),
    ),
    ramp=st.none() | st.builds(Ramp, start=st.integers()),
    items=st.lists(items, max_size=3),
    sets=st.dictionaries(names, st.lists(items, max_size=2), max_size=2),
)


@settings(deadline=None, max_examples=25)
@given(configs)
def test_what_is_printed_loads_to_an_equal_config(config: Config) -> None:
    printed = yaml.safe_load(to_yaml(config))
    assert Config.model_validate(printed) == config


def test_the_smallest_numbers_survive_printing(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, "optimizer.lr=1e-8")
    again = load(tmp_path, to_yaml(config))
    assert again == config and math.isclose(again.optimizer.lr, 1e-8)


def test_times_are_not_numbers_to_the_base_of_sixty(tmp_path: Path) -> None:
    class Job(Section):
        time: str
        """How long."""
        count: int = 1
        """How many."""
        rate: float = 1.0
        """How much."""

    path = tmp_path / "job.yaml"
    path.write_text("time: 8:00:00\ncount: 0x1F\nrate: 1_0.5\n")
    assert load_config(Job, path) == Job(time="8:00:00", count=31, rate=10.5)
    assert load_config(Job, None, ["time=1:30:00", "count=1_000", "rate=-2.5e-3"]) == Job(
        time="1:30:00", count=1000, rate=-0.0025
    )
    assert load_config(Job, None, ["time=x", "count=010"]).count == 10
    with pytest.raises(ConfigError, match=r"not valid YAML: a is given twice"):
        load_config(Job, None, ["time={a: 1, a: 2}"])
    dumped = tmp_path / "again.yaml"
    dumped.write_text(to_yaml(Job(time="8:00:00")))
    assert load_config(Job, dumped).time == "8:00:00"
