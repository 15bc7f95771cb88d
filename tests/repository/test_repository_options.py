"""Short forms of options mean one thing in every command, and every command is asked for help alike."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.repository.test_repository_paths import APPS

SHORT = {"--config": "-c", "--output": "-o", "--input": "-i", "--model": "-m", "--prompt": "-p"}
"""Options that have a short form, which every command has that has the option."""


def options() -> Iterator[tuple[str, Any]]:
    """Every option that a command shows, and the command."""
    for app in APPS:
        module, _, name = app.partition(":")
        group = typer.main.get_command(getattr(importlib.import_module(module), name))
        for command in getattr(group, "commands", {"": group}).values():
            for param in command.params:
                if param.param_type_name == "option" and not getattr(param, "hidden", False):
                    yield f"{app} {command.name}", param


def test_the_short_forms_are_everywhere() -> None:
    lacking = [
        f"{where} {name}"
        for where, param in options()
        for name, short in SHORT.items()
        if name in param.opts and short not in param.opts
    ]
    assert lacking == []
    meant: dict[str, set[str]] = defaultdict(set)
    for _, param in options():
        longs = [name for name in param.opts if name.startswith("--")]
        for short in set(param.opts) - set(longs):
            meant[short] |= set(longs[:1])
    assert {short: names for short, names in meant.items() if len(names) > 1} == {}


@pytest.mark.parametrize("app", APPS)
def test_every_command_is_asked_for_help_alike(app: str) -> None:
    module, _, name = app.partition(":")
    found = typer.main.get_command(getattr(importlib.import_module(module), name))
    assert found.context_settings.get("help_option_names") == ["-h", "--help"]
