"""The commands of fine-tuning: `python -m finetune export|import|TASK|run`; others have modules of their own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

import typer

from configs.errors import ConfigError
from configs.load import find_recipes, load_config, read_yaml, to_yaml
from configs.section import Section
from data_prep.commands.command_line import override
from finetune.answering import answer_command
from finetune.attribution.command import attribute_command
from finetune.evaluate_command import evaluate_command
from finetune.generate_command import generate_command
from finetune.instruct_command import instruct_command
from finetune.predict_command import predict_command
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.kinds import TASKS
from finetune.utf8 import refuse_undecodable

app = typer.Typer(
    help="A pretraining checkpoint -> a Hugging Face model, generated text, a model of a task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate_command)
app.command("instruct")(instruct_command)
app.command("answer")(answer_command)
app.command("predict")(predict_command)
app.command("attribute")(attribute_command)
app.command("evaluate")(evaluate_command)
ConfigClass = TypeVar("ConfigClass", bound=Section)

Recipe = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        help="A YAML file, or a recipe of configs/finetune; each adds to and overrides those before it.",
    ),
]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Replace what an earlier run left in the output.")]
Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="PATH", help="A run's output directory, or an exported model.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="Directory to write.")]
# The deepspeed launcher adds it; the environment says the same.
LocalRank = Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one message and status 2, told by the main process.

    Args:
        arguments: the words of the command line, the command first; None: those of this process.
    """
    from pretrain.parallel.launch import told_once

    with told_once():
        app(arguments, prog_name="python -m finetune")


@app.callback()
def launched(local_rank: LocalRank = 0) -> None:
    """A pretraining checkpoint -> a Hugging Face model, generated text, a model of a task."""


@app.command("export")
def export_command(
    settings: Settings = None,
    config: Recipe = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="PATH", help="A run's output directory, or one step_... of it."),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(hidden=True)] = None,
    output: Output = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="huggingface, sentencepiece-only or none.")] = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Write a checkpoint as a Hugging Face directory, if its logits equal those of our model."""
    from finetune.config import ExportConfig

    if checkpoint is not None:
        if model is not None:
            raise ConfigError("is the old name of --model, and both are given", where="--checkpoint")
        print("note: --checkpoint is called --model now", file=sys.stderr, flush=True)
        model = checkpoint
    given = {"model": model, "output": output, "dtype": dtype, "tokenizer": tokenizer}
    loaded = _load(ExportConfig, config, given | {"overwrite": overwrite}, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from finetune.huggingface.export import export

    record = export(loaded)
    logits = record["logits"]
    _print(f"{record['architecture']}, {record['parameters']:,} parameters, step {record['step']}, {record['dtype']}")
    _print(
        f"logits equal on {logits['sequences']} sequences of full length: largest difference"
        f" {logits['largest_difference']:.1e} (allowed {logits['tolerance']:.0e})"
    )
    if "rounding" in record:
        rounding = record["rounding"]
        _print(
            f"rounded to {rounding['dtype']}: each weight by at most {rounding['largest_relative_change']:.2%}"
            f" of itself, logits by at most {rounding['largest_logit_difference']:.1e}"
            f" (largest {logits['largest_logit']:.1f})"
        )
    _print(f"model  {loaded.output}")
    if record.get("pipeline") == "fill-mask":
        _print(f"how to fill masks with it: {loaded.output / 'README.md'}")
    elif loaded.tokenizer != "none":
        _print(f'next: python -m finetune generate --model {shlex.quote(str(loaded.output))} --prompt "..."')


@app.command("import")
def import_command(
    settings: Settings = None,
    config: Recipe = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="PATH", help="A local Hugging Face model directory.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="The run to write.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="model or none.")] = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Write a Hugging Face model as a run at step 0, if our model's logits equal those of transformers."""
    from finetune.config import ImportConfig

    given = {"model": model, "output": output, "tokenizer": tokenizer, "overwrite": overwrite}
    loaded = _load(ImportConfig, config, given, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from finetune.huggingface.importing import import_model

    for line in import_model(loaded):
        _print(line)
    run = shlex.quote(str(loaded.output))
    _print(f"next: start_from={run} in a run, or python -m finetune export --model {run} --output ...")


def _task_command(name: str) -> Callable[..., None]:
    """The command of the task `name`."""

    def command(
        settings: Settings = None,
        config: Recipe = None,
        model: Model = None,
        output: Output = None,
        overwrite: Overwrite = None,
        print_config: PrintConfig = False,
        local_rank: LocalRank = 0,
    ) -> None:
        given = {"model": model, "output": output, "overwrite": overwrite}
        _run_task(name, config, given, settings, print_config)

    made = str(TASKS.declaration(name).__doc__).splitlines()[0].rstrip(".")
    app.command(name, help=f"{made}, measured; also under deepspeed and torchrun.")(command)
    return command


TASK_COMMANDS = {name: _task_command(name) for name in TASKS.targets}
"""What `python -m finetune NAME` calls, by the names of the tasks."""


@app.command("run")
def run_command(
    settings: Settings = None,
    config: Recipe = None,
    model: Model = None,
    output: Output = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
    local_rank: LocalRank = 0,
) -> None:
    """Fine-tune a pretrained model on any task, task=NAME or task=module:Class; also under deepspeed and torchrun."""
    chosen = [text for text in settings or [] if text.startswith("task=")]
    others = [text for text in settings or [] if not text.startswith("task=")]
    name = chosen[-1].removeprefix("task=") if chosen else _task_of(config)
    given = {"model": model, "output": output, "overwrite": overwrite}
    _run_task(name, config, given, others, print_config)


def _task_of(recipes: list[str] | None) -> str:
    """The task that the last recipe which names one names."""
    layers = [read_yaml(path) for path in find_recipes(recipes, "finetune")]
    named = [layer["name"] for layer in layers if "name" in layer]
    found = named[-1] if named else TASKS.default if layers else None
    if not isinstance(found, str):
        known = ", ".join(TASKS.targets)
        raise ConfigError("no task was given", where="command line", expected=f"task=NAME, of {known}, or module:Class")
    return found


def _run_task(
    name: str, recipes: list[str] | None, options: Mapping[str, object], settings: list[str] | None, print_config: bool
) -> None:
    """Load the config of the task `name`, run it, print its results."""
    try:
        declared = TASKS.declaration(name)
        if not issubclass(declared, TaskConfig):
            raise ValueError(f"{name!r} is not the config class of a {TASKS.what}")
    except ValueError as error:
        raise ConfigError(str(error), where="task") from None
    loaded = _load(declared, recipes, {"name": name, **options}, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from pretrain.parallel.accelerator import prepare_environment

    prepare_environment(loaded.training.device)  # before anything imports torch
    from finetune.run_task import run_task, show

    if loaded.search is not None:
        from finetune.search.results import show_search
        from finetune.search.study import run_search

        found = run_search(loaded, _print)
        return None if found is None else show_search(found, loaded)
    if loaded.seeds:
        from finetune.seeds import run_seeds, show_seeds

        joined = run_seeds(loaded, _print)
        return None if joined is None else show_seeds(joined, loaded)
    result = run_task(loaded, _print)
    if result is not None:
        show(result, loaded)


def _load(
    cls: type[ConfigClass], recipes: list[str] | None, options: Mapping[str, object], settings: list[str] | None
) -> ConfigClass:
    given = []
    for key, value in options.items():
        if value is None:
            continue
        if not isinstance(value, bool | int):
            # What is written names it, and what is printed: neither could.
            refuse_undecodable(str(value), key)
        given.append(override(key, value if isinstance(value, bool | int) else str(value)))
    return load_config(cls, find_recipes(recipes, "finetune"), given + list(settings or []))


def _print(text: str) -> None:
    print(text, flush=True)
