"""The command `clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from data_prep.commands.command_line import load, recipes_and_settings

PathOption = Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="The directory to write.")]


def clean_command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe of configs/data_prep.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", help="The recipe, as other commands take it.")
    ] = None,
    output: PathOption = None,
    workers: Annotated[int | None, typer.Option(help="Tasks at a time; the result does not depend on it.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Any record that cannot be read is an error.")] = False,
    overwrite: Annotated[bool | None, typer.Option("--overwrite", help="Replace the output if it exists.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")] = False,
) -> None:
    """Clean and deduplicate raw documents, and report what was dropped."""
    from configs.load import to_yaml
    from data_prep.cleaning.config import CleanConfig

    recipes, given = recipes_and_settings(recipe, config, settings)
    options: dict[str, object] = {"output": output, "workers": workers, "overwrite": overwrite}
    if strict:
        options |= {"max_malformed_share": 0, "max_damaged_files": 0}
    loaded = load(CleanConfig, recipes, options, given)
    if print_config:
        return print(to_yaml(loaded).rstrip("\n"), flush=True)
    from data_prep.cleaning.run import clean
    from data_prep.cleaning.summary import next_commands, summarize_cleaning

    cleaned = clean(loaded)
    for line in summarize_cleaning(cleaned.report, loaded.output, cleaned.was_there):
        print(line)
    for arguments in next_commands(loaded.output):
        print(f"next: python -m data_prep {arguments}", flush=True)
