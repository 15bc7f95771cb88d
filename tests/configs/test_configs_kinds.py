"""Code that comes along with a model is told from code that is installed, without running either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from configs.kinds import comes_with


@pytest.mark.parametrize("layout", ["along.py", "along/__init__.py", "along/inner.py"])
def test_code_that_came_along_is_found_without_being_run(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "model" / layout
    module.parent.mkdir(parents=True)
    module.write_text("raise SystemExit('it was run')")
    name = layout.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert not comes_with(f"{name}:Class", tmp_path / "model")  # not on the path at all
    monkeypatch.syspath_prepend(tmp_path / "model")
    assert comes_with(f"{name}:Class", tmp_path / "model")
    assert not comes_with(f"{name}:Class", tmp_path / "another")
    assert name not in sys.modules


def test_names_of_ours_and_installed_modules_are_no_such_code(tmp_path: Path) -> None:
    assert not comes_with("gpt", tmp_path)
    assert not comes_with("json:loads", tmp_path)
    assert not comes_with("no_such_module:Class", tmp_path)
