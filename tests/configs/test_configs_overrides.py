"""Values of the command line."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BeforeValidator

from configs.load import load_config
from configs.section import Section


class Item(Section):
    path: Path


class Config(Section):
    name: str = "a"
    items: Annotated[list[Item], BeforeValidator(lambda v: v if isinstance(v, list) else [{"path": v}])] = []
    named: dict[str, Item] = {}


def load(override: str) -> Config:
    return load_config(Config, None, [override])


@pytest.mark.parametrize("override", ["name=-", "name= - ", "named={a: {path: b}}"])
def test_a_dash_alone_is_text(override: str) -> None:
    assert load(override).name == ("-" if override.startswith("name=") else "a")
    assert load("named.a.path=-").named["a"].path == Path("-")
    assert load("items=-").items == [Item(path=Path("-"))]
