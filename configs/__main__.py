"""`python -m configs`: the reference, the editors' schemas, and a check of a config file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import ConfigError, guarded
from configs.kinds import resolve
from configs.load import RECIPES, find_recipe, load_config
from configs.registry import ENTRIES, LAYOUT_CHECK, CommandEntry, entry_named

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main() -> None:
    """Look after configs: reference, schemas, checks."""


@app.command()
def reference() -> None:
    """Write docs/configuration.md from the config classes."""
    from configs.reference import REFERENCE, reference_text

    REFERENCE.parent.mkdir(exist_ok=True)
    _replace(REFERENCE, reference_text())


@app.command()
def schema() -> None:
    """Write configs/schema/*.json, by which editors complete and check YAML files."""
    from configs.reference import SCHEMAS, schema_texts

    SCHEMAS.mkdir(exist_ok=True)
    for name, text in schema_texts().items():
        _replace(SCHEMAS / name, text)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="a YAML file, or the name of a recipe")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value", metavar="[KEY=VALUE]...")] = None,
    entry_name: Annotated[str | None, typer.Option("--for", help="whose config it is; default: by its folder")] = None,
    ranks: Annotated[int | None, typer.Option(help="also check the layout on this many ranks", min=1)] = None,
) -> None:
    """Check a config without starting anything."""
    entry = entry_named(entry_name) if entry_name else _entry_of(file)
    source = find_recipe(file, entry.room)
    complete = resolve(entry.completion) if entry.completion else None
    config = load_config(entry.config_class(), source, overrides or [], complete)
    typer.echo(f"{source}: a valid config of {entry.command}")
    if ranks is not None:
        if entry.name != "pretrain":
            raise ConfigError(f"{entry.name} has no layout", where="--ranks", expected="a config of pretrain")
        typer.echo(f"layout on {ranks} ranks: {resolve(LAYOUT_CHECK)(config, ranks)}")


def _entry_of(file: str) -> CommandEntry:
    if Path(file).is_file():
        rooms = {Path(file).resolve().parent.name}
    else:
        rooms = {path.parent.name for path in RECIPES.glob("*/*.yaml") if path.stem == file} or {"pretrain"}
    matching = [entry for entry in ENTRIES if entry.room in rooms]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(entry.name for entry in matching or ENTRIES)
    raise ConfigError("its folder does not tell whose config it is", where=file, expected=f"--for, one of {known}")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    typer.echo(path)


if __name__ == "__main__":
    guarded(app)
