"""Where a wrong setting was given, and that true and false are no numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from configs.errors import ConfigError
from configs.examples import example_text
from configs.explain import sections_of
from configs.load import load_config
from configs.registry import ENTRIES
from configs.section import Section


class Pair(Section):
    low: int = 1
    high: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> Pair:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Ramp(Section):
    start: int = Field(examples=[32])


class Numbers(Section):
    pair: Pair = Pair()
    count: int = 1
    share: float | None = None
    split: tuple[float, float] = (0.5, 0.5)
    grams: list[tuple[int, float]] = []
    named: dict[str, int] = {}
    either: bool | int = False
    text: str = ""
    sure: bool = True
    ramp: Ramp | None = None


def numbers_problem(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(Numbers, path, overrides)
    return caught.value.render()


def all_fields() -> dict[str, FieldInfo]:
    """Every field of every command's config, at any depth."""
    found: dict[str, FieldInfo] = {}
    left: list[type[BaseModel]] = [entry.config_class() for entry in ENTRIES]
    while left:
        cls = left.pop()
        for name, field in cls.model_fields.items():
            if found.setdefault(f"{cls.__name__}.{name}", field) is field:
                left += [section for section in sections_of(field) if f"{section.__name__}." not in str(list(found))]
    return found


def test_every_example_is_a_value_that_its_key_accepts() -> None:
    fields = all_fields()
    assert {"RunConfig.model", "BatchRamp.start", "TokenizeConfig.tokenizer"} <= set(fields)
    for key, field in fields.items():
        if key.endswith(".name"):
            continue
        value = yaml.safe_load(example_text(field))
        assert TypeAdapter(Annotated[field.annotation, field]).validate_python(value) is not None, key


@pytest.mark.parametrize(
    ("setting", "key", "expected"),
    [
        ("count: true", "count = True", "a whole number"),
        ("share: false", "share = False", "a number"),
        ("split: [0.5, true]", "split.1 = True", "a number"),
        ("grams: [[true, 0.5]]", "grams.0.0 = True", "a whole number"),
        ("named: {a: true}", "named.a = True", "a whole number"),
        ("pair: {low: false}", "pair.low = False", "a whole number"),
    ],
)
def test_true_and_false_are_no_numbers(tmp_path: Path, setting: str, key: str, expected: str) -> None:
    said = f"{key}: expected {expected}, not true or false"
    assert numbers_problem(tmp_path, setting) == f"{tmp_path}/config.yaml: {said}"
    assert numbers_problem(tmp_path, "", setting.replace(": ", "=", 1)) == f"command line: {said}"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("count=x", "count = 'x': expected a whole number, such as 1"),
        ("count=1.5", "count = 1.5: expected a whole number, such as 1"),
        ("share=[1]", "share = [1]: expected a number, such as 1.0"),
        ("split=[0.5, x]", "split.1 = 'x': expected a number, with split such as [0.5, 0.5]"),
        ("sure=maybe", "sure = 'maybe': expected true or false, such as true"),
        ("text=3", "text = 3: expected text, such as "),
        ("ramp={}", "ramp.start is missing and has no default; expected a value, such as 32"),
    ],
)
def test_what_cannot_be_read_or_is_missing_is_told_with_an_example(tmp_path: Path, setting: str, said: str) -> None:
    assert numbers_problem(tmp_path, "", setting).startswith(f"command line: {said}")


def test_where_both_may_stand_and_where_numbers_are_written_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("either: true\nshare: 3e-4\ncount: '7'\n")
    config = load_config(Numbers, path, ["sure=1", "split=[1, 0]"])
    assert (config.either, config.share, config.count, config.sure, config.split) == (True, 3e-4, 7, True, (1.0, 0.0))


def test_no_number_of_any_entry_takes_true() -> None:
    for entry in ENTRIES:
        numbers = [
            (section, name)
            for section in {entry.config_class(), *_sections_below(entry.config_class())}
            for name, field in section.model_fields.items()
            if field.annotation in (int, float, int | None, float | None)
        ]
        for section, name in numbers:
            with pytest.raises(ValidationError) as caught:
                section.model_validate({name: True})
            assert any("not true or false" in e["msg"] for e in caught.value.errors() if e["loc"] == (name,)), name


def _sections_below(cls: type[BaseModel]) -> set[type[BaseModel]]:
    below = {section for field in cls.model_fields.values() for section in sections_of(field)}
    return below.union(*(_sections_below(section) for section in below))


def test_each_problem_says_whether_the_file_or_the_command_line_has_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = numbers_problem(tmp_path, "count: many\ncuont: 3\n", "pair.low=few", "named={a: x}")
    assert text.splitlines() == [
        "4 problems",
        "- command line: pair.low = 'few': expected a whole number, such as 1",
        f"- {path}: count = 'many': expected a whole number, such as 1",
        "- command line: named.a = 'x': expected a whole number, with named such as {NAME: 1}",
        f"- {path}: unknown key cuont (value 3); did you mean count?",
    ]
    # An override that does not fit with what the file says of the same section.
    text = numbers_problem(tmp_path, "pair: {low: 5}\n", "pair.high=2", "count=3")
    assert text == f"{path} and command line: pair: low 5 is above high 2"
    assert numbers_problem(tmp_path, "pair: {low: 5, high: 2}\n", "count=3").startswith(f"{path}: pair: ")
    assert numbers_problem(tmp_path, "", "pair={low: 5, high: 2}").startswith("command line: pair: ")
