"""What the commands of data preparation share: their options, how settings are read, how results are told."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from configs.load import find_recipes, load_config
from configs.section import Section

ConfigClass = TypeVar("ConfigClass", bound=Section)

Recipe = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        help="A YAML file, or a recipe of configs/data_prep; each adds to and overrides those before it.",
    ),
]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Replace the output if it exists.")]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="What to write.")]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="File, directory or pattern to read; can be given several times."),
]
TextField = Annotated[list[str] | None, typer.Option("--text-field", help="Field or column that holds the text.")]


def load(
    cls: type[ConfigClass], recipes: list[str] | None, options: Mapping[str, object], settings: list[str] | None
) -> ConfigClass:
    """The settings of a command: the recipes', then those of options, then `key=value`.

    Raises:
        ConfigError: if one does not fit.
    """
    given = [
        override(key, value if isinstance(value, bool | int | list) else str(value))
        for key, value in options.items()
        if value is not None and value != []
    ]
    return load_config(cls, find_recipes(recipes, "data_prep"), given + list(settings or []))


def recipes_and_settings(
    recipe: str | None, config: list[str] | None, settings: list[str] | None
) -> tuple[list[str], list[str]]:
    """The recipes and the `key=value` of a command that takes its recipe with or without `--config`.

    Args:
        recipe: the first word after the command; a setting, where it has an equals sign or `config` is given.
        config: values of `--config`.
        settings: the other words.
    """
    recipes, given = list(config or []), list(settings or [])
    if recipe is not None and (recipes or "=" in recipe):
        given.insert(0, recipe)
    elif recipe is not None:
        recipes = [recipe]
    return recipes, given


def override(key: str, value: object) -> str:
    """`key=value` as `load_config` reads it back, whatever characters `value` holds."""
    # JSON is YAML but for what is beyond U+FFFF, which JSON's escapes write as two halves. YAML's write it whole.
    text = json.dumps(value, ensure_ascii=False)
    return f"{key}=" + re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08X}", text)


def say(text: str) -> None:
    """Print lines."""
    print(text.rstrip("\n"), flush=True)


def say_next(*arguments: object) -> None:
    """Print the command that goes on from here; each argument is one word for a shell."""
    say(f"next: python -m data_prep {shlex.join(map(str, arguments))}")


def pretrain_command(corpus: Path) -> str:
    """The command that trains on a corpus: a BERT where it keeps sentences in an encoder's vocabulary, else a GPT."""
    from data_prep.corpus import Corpus
    from data_prep.tokenizer.roles import ROLES_FILE, read_description

    opened = Corpus.open(corpus)
    recipe = "gpt-tiny"
    if opened.manifest is not None and opened.manifest.sentences and opened.tokenizer_path is not None:
        described = read_description(opened.tokenizer_path / ROLES_FILE)
        roles = {} if described is None else described.roles
        if all(roles.get(role) is not None for role in ("mask", "classification", "separator")):
            recipe = "bert-tiny"
    return f"deepspeed pretrain/main.py --config {recipe} data.train={shlex.quote(str(corpus))}"
