"""The entry to pretraining, for every launcher.

deepspeed pretrain/main.py --config gpt-tiny key=value ...
torchrun --nproc-per-node 2 pretrain/main.py --config gpt-tiny
srun / mpirun / plain python pretrain/main.py --config gpt-tiny
any of them ... pretrain/main.py evaluate runs/gpt-tiny key=value ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

# Started as a script, Python would look for modules among this room's files (`data`, `models`) first.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import typer
from pydantic import ValidationError

from configs.errors import ExitStatus
from configs.load import find_recipes, load_config, to_yaml
from configs.paths import input_path, output_path
from pretrain.config import ParallelConfig, RunConfig
from pretrain.parallel.accelerator import prepare_environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
evaluate_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
LocalRank = Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)]


@app.command(context_settings={"ignore_unknown_options": False, "help_option_names": ["-h", "--help"]})
def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            help="A recipe's name (configs/pretrain/) or a YAML file; each adds to and overrides those before it."
            " Default: gpt-tiny.",
        ),
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the whole config and stop.")] = False,
    local_rank: LocalRank = 0,
) -> None:
    """Pretrain a model as a recipe says, on as many processes as the launcher starts.

    `pretrain/main.py evaluate --help` tells how to evaluate a checkpoint.
    """
    recipes = find_recipes(config or ["gpt-tiny"], "pretrain")
    run_config = load_config(RunConfig, recipes, overrides or [], complete=_with_model_of_source)
    if print_config:
        print(to_yaml(run_config), end="")
        return
    raise typer.Exit(int(run(run_config)))


def _with_model_of_source(raw: dict[str, Any]) -> dict[str, Any]:
    """The values of a config with what the model leaves out, where `start_from` or a branch's run says it."""
    checkpoint = raw.get("checkpoint")
    branch = checkpoint.get("branch_from") if isinstance(checkpoint, dict) else None
    if raw.get("start_from") is None and branch is None:
        return raw
    training, parallel = raw.get("training"), raw.get("parallel")
    device = training.get("device") if isinstance(training, dict) else None
    try:
        layout = ParallelConfig.model_validate(parallel or {})
    except ValidationError:
        layout = None  # is told with all that is wrong
    prepare_environment("cpu" if device == "cpu" else "auto", layout)  # transformers' configs import torch
    from pretrain.starting.architecture import complete_model

    return complete_model(raw)


@evaluate_app.command(context_settings={"help_option_names": ["-h", "--help"]})
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            parser=input_path,
            help="A checkpoint (step_...), or a run's directory: its newest one.",
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the checkpoint's own settings.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Evaluate the test sets, too.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="A JSON file for the figures."),
    ] = None,
    local_rank: LocalRank = 0,
) -> None:
    """Evaluate a checkpoint on the sets of data.validation, on as many processes, in any layout."""
    from pretrain.checkpoint.reader import find_checkpoints
    from pretrain.evaluate_checkpoint import evaluate_checkpoint, evaluation_config
    from pretrain.stopping import StopRequest

    checkpoint = find_checkpoints(checkpoint)[-1]
    config = evaluation_config(checkpoint, overrides or [])
    prepare_environment(config.training.device, config.parallel)
    with StopRequest(has_begun=False):
        evaluate_checkpoint(checkpoint, config, with_test=test, output=output)


def run(config: RunConfig) -> ExitStatus:
    """Check the run, train it, and say how it ended."""
    prepare_environment(config.training.device, config.parallel)  # before anything imports torch
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
    """Run `main` or `evaluate`; a `UserError` is printed once, by the main process."""
    from pretrain.parallel.launch import told_once

    # The deepspeed launcher puts an option of its own first.
    words = [word for word in sys.argv[1:] if not word.startswith(("--local_rank=", "--local-rank="))]
    with told_once():
        if words[:1] == ["evaluate"]:
            evaluate_app(args=words[1:], prog_name="pretrain/main.py evaluate")
        else:
            app()


if __name__ == "__main__":
    entry()
