"""The command `build`."""

from __future__ import annotations

from typing import Annotated

import typer

from configs.errors import ConfigError


def build_command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe of configs/data_prep.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", help="The recipe, as other commands take it.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="The directory to write.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")] = False,
) -> None:
    """Clean documents, learn a tokenizer, tokenize, verify and count: from raw files to a corpus in one command."""
    from configs.load import to_yaml
    from data_prep.build_config import BuildConfig
    from data_prep.commands.command_line import load, pretrain_command, recipes_and_settings

    recipes, given = recipes_and_settings(recipe, config, settings)
    if not recipes:
        raise ConfigError("no recipe was given", where="build", expected="the name of one, such as build-debian")
    loaded = load(BuildConfig, recipes, {"output": output}, given)
    if print_config:
        return print(to_yaml(loaded).rstrip("\n"), flush=True)
    from data_prep.building import build

    build(loaded, lambda line: print(line, flush=True))
    print(f"next: {pretrain_command(loaded.tokenize.output)}", flush=True)
