"""The entry to pretraining, for every launcher.

deepspeed pretrain/main.py --config gpt-tiny key=value ...
torchrun --nproc-per-node 2 pretrain/main.py --config gpt-tiny
srun / mpirun / plain python pretrain/main.py --config gpt-tiny
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

# Started as a script, Python would look for modules among this room's files (`data`, `models`) first.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import typer

from configs.errors import ExitStatus
from configs.load import find_recipes, load_config, to_yaml
from pretrain.config import RunConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"ignore_unknown_options": False})
def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            help="A recipe's name (configs/pretrain/) or a YAML file; of several, the last wins. Default: gpt-tiny."
        ),
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the whole config and stop.")] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
) -> None:
    """Pretrain a model as a recipe says, on as many processes as the launcher starts."""
    run_config = load_config(RunConfig, find_recipes(config or ["gpt-tiny"], "pretrain"), overrides or [])
    if print_config:
        print(to_yaml(run_config), end="")
        return
    raise typer.Exit(int(run(run_config)))


def run(config: RunConfig) -> ExitStatus:
    """Check the run, train it, and say how it ended."""
    if config.training.device == "cpu":
        # Before anything imports torch, so that all of it finds no GPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from pretrain.stopping import StopRequest

    with StopRequest(has_begun=False) as stop:
        from pretrain import preflight

        plan = preflight.check(config)

        from pretrain.engine import topology
        from pretrain.loop import train
        from pretrain.trainer import Trainer

        trainer = Trainer(plan, stop)
        try:
            ending = train(trainer)
            trainer.finish(ending.progress, ending.reason)
        finally:
            trainer.close()
    topology.stop()
    return ExitStatus.OK if ending.reason == "finished" else ExitStatus.INTERRUPTED


def entry() -> None:
    """Run `main`; a `UserError` is printed once, by the main process."""
    from pretrain.parallel.launch import told_once

    with told_once():
        app()


if __name__ == "__main__":
    entry()
