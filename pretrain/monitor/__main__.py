"""`python -m pretrain.monitor`: look at what a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Look at what a run left behind."""


@app.command()
def plot(
    run_dir: Annotated[Path, typer.Argument(help="output_dir of a run")],
    output: Annotated[Path | None, typer.Option(help="the picture; default: RUN_DIR/curves.png")] = None,
) -> None:
    """Draw loss, validation, learning rate, gradient norm and speed from metrics.jsonl."""
    from pretrain.monitor.plots import plot_run

    typer.echo(plot_run(run_dir, output))


if __name__ == "__main__":
    guarded(app)
