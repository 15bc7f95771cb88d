"""`python -m pretrain.monitor`: look at what a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import guarded
from configs.paths import input_path, output_path

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main() -> None:
    """Look at what runs left behind."""


@app.command()
def plot(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", parser=input_path, help="output of a run")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", parser=output_path, help="the picture; default: RUN_DIR/curves.png"
        ),
    ] = None,
) -> None:
    """Draw loss, validation, learning rate, gradient norm and speed from metrics.jsonl."""
    from pretrain.monitor.plots import plot_run

    typer.echo(plot_run(run_dir, output))


@app.command()
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(parser=input_path, metavar="RUN_DIR...", help="output of each run")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            parser=output_path,
            help="draw their curves over each other into this picture",
        ),
    ] = None,
) -> None:
    """Print the figures of several runs side by side, and the settings that differ."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pretrain.monitor.comparison import comparison_rows, read_run
    from pretrain.monitor.plots import plot_comparison

    runs = [read_run(directory) for directory in run_dirs]
    rows = comparison_rows(runs)
    table = Table()
    table.add_column(overflow="fold")
    for run in runs:
        table.add_column(Text(str(run.directory)), overflow="fold")
    for label, values in rows:
        table.add_row(Text(label), *(Text(value) for value in values))
    Console().print(table)
    if output is not None:
        typer.echo(plot_comparison({str(run.directory): run.records for run in runs}, output))


if __name__ == "__main__":
    guarded(app)
