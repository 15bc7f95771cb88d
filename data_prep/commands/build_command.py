"""The command `build`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def build_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe of configs/data_prep.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The directory to write.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")] = False,
) -> None:
    """Clean documents, learn a tokenizer, tokenize, verify and count: from raw files to a corpus in one command."""
    from configs.load import find_recipe, load_config, to_yaml
    from data_prep.build_config import BuildConfig

    given = [f"output={output}"] if output is not None else []
    loaded = load_config(BuildConfig, find_recipe(recipe, "data_prep"), [*given, *(settings or [])])
    if print_config:
        return print(to_yaml(loaded).rstrip("\n"), flush=True)
    from data_prep.building import build

    build(loaded, lambda line: print(line, flush=True))
    corpus = shlex.quote(str(loaded.tokenize.output))
    print(f"next: deepspeed pretrain/main.py --config gpt-tiny data.train={shlex.quote(str(corpus))}", flush=True)
