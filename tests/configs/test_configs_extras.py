"""What is not installed is named with a command that works."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

from configs.extras import CHECKOUT, install_command

ROOT = Path(__file__).parents[2]
ROOMS = ("configs", "data_prep", "pretrain", "finetune", "cluster")


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_the_command_installs_from_the_checkout() -> None:
    words = shlex.split(install_command("clean"))
    assert words == ["pip", "install", "-c", f"{CHECKOUT}/constraints.txt", "-e", f"{CHECKOUT}[clean]"]
    assert (CHECKOUT / "constraints.txt").is_file() and (CHECKOUT / "pyproject.toml").is_file()


def test_every_extra_that_code_and_pages_name_exists() -> None:
    sources = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    pages = [path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    named = {name for text in sources for name in re.findall(r"install_command\([\"'](\w+)[\"']\)", text)}
    shown = {name for text in pages for name in re.findall(r"pip install -e '\.\[(\w+)\]'", text)}
    assert {"clean", "fast", "wandb"} <= named <= extras()
    assert {"clean", "fast", "wandb", "remote"} <= shown <= extras()
    # No index has the distribution.
    assert not any("'bessemer[" in text for text in [*sources, *pages])
