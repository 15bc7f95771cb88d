"""The command `instruct`: a decoder trained on conversations, in every layout of pretraining."""

from __future__ import annotations

from typing import Annotated

import typer

LocalRank = Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)]
EXAMPLES_FILE = "examples.html"


def instruct_command(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            help="A YAML file, or a recipe of configs/finetune; each adds to and overrides those before it.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="PATH", help="A run, an export, or a Hugging Face directory.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="The run's directory.")] = None,
    show_example: Annotated[
        int,
        typer.Option(
            "--show-example",
            metavar="N",
            help="Show the first N prepared conversations, tokens with ids and what is asked for, and stop.",
        ),
    ] = 0,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")] = False,
    local_rank: LocalRank = 0,
) -> None:
    """Train a decoder on conversations; also under deepspeed, torchrun, srun and mpirun."""
    from configs.load import find_recipes, load_config, to_yaml
    from data_prep.commands.command_line import override
    from finetune.chat.config import InstructRunConfig

    given = [override(key, value) for key, value in (("model", model), ("output", output)) if value is not None]
    loaded = load_config(InstructRunConfig, find_recipes(config, "finetune"), given + list(settings or []))
    if print_config:
        print(to_yaml(loaded), flush=True)
        return
    from pretrain.parallel.accelerator import prepare_environment

    prepare_environment(loaded.training.device, loaded.parallel)  # before anything imports torch
    if show_example:
        _show(loaded, show_example)
        return
    from finetune.chat.run import instruct

    raise typer.Exit(int(instruct(loaded, lambda line: print(line, flush=True))))


def _show(config: object, count: int) -> None:
    from rich.console import Console

    from data_prep.corpus import Corpus
    from finetune.chat.config import InstructRunConfig
    from finetune.chat.example_page import as_text, shown_conversations, write_page
    from finetune.chat.run import prepare_run

    assert isinstance(config, InstructRunConfig)
    prepared = prepare_run(config, lambda line: print(line, flush=True))
    conversations = shown_conversations(Corpus.open(prepared.data.train), count)
    console = Console(highlight=False)
    for number, tokens in enumerate(conversations):
        labels = sum(token.is_label for token in tokens)
        console.print(f"conversation {number}: {len(tokens)} tokens, {labels} labels (*, green)", markup=False)
        console.print(as_text(tokens))
    path = config.output / EXAMPLES_FILE
    write_page(conversations, path, f"{len(conversations)} conversations as {config.model} is trained on them")
    print(f"page  {path}", flush=True)
