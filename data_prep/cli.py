"""The commands of data preparation: `python -m data_prep COMMAND [--config RECIPE] [key=value ...]`.

Each command is a config class, so every setting can be given as `key=value`; the options are short forms of the
settings that are given most.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from configs.errors import guarded
from configs.load import to_yaml
from data_prep.commands import corpus_commands, tokenizer_commands
from data_prep.commands.build_command import build_command
from data_prep.commands.clean_command import clean_command
from data_prep.commands.command_line import (
    Input,
    Output,
    Overwrite,
    PrintConfig,
    Recipe,
    Settings,
    TextField,
    load,
    pretrain_command,
    say,
    say_next,
)

app = typer.Typer(
    help="Raw text -> tokenizer -> memory-mapped shards of tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a user's mistake ends it with one message and status 2, a signal with 128 + its number."""
    with _tidy_when_stopped():
        guarded(lambda: app(prog_name="python -m data_prep"))


@app.command("sample-corpus")
def sample_corpus_command(
    settings: Settings = None,
    config: Recipe = None,
    output: Output = None,
    min_bytes: Annotated[int | None, typer.Option(help="Fail if less text is found.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Stop after so much text.")] = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Collect the documentation found in this Python installation as JSON lines."""
    from data_prep.config import SampleCorpusConfig

    given = {"output": output, "min_bytes": min_bytes, "max_bytes": max_bytes, "overwrite": overwrite}
    loaded = load(SampleCorpusConfig, config, given, settings)
    if print_config:
        return say(to_yaml(loaded))
    from data_prep.sample_corpus import sample_corpus

    result = sample_corpus(loaded)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.by_kind.items(), key=lambda item: -item[1]))
    say(f"{result.documents:,} documents, {result.text_bytes:,} bytes of text from {result.packages} packages")
    say(f"  kinds  {kinds}\n  file   {loaded.output}")
    tokenizer = loaded.output.with_name("tokenizer")
    learn = ("train-tokenizer", "--config", "tokenizer-bpe-8k")
    say_next(*learn, "--input", loaded.output, "--output", tokenizer)


tokenizer_commands.register(app)


app.command("clean")(clean_command)
app.command("build")(build_command)


@app.command("tokenize")
def tokenize_command(
    settings: Settings = None,
    config: Recipe = None,
    input: Input = None,
    output: Output = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer directory.")] = None,
    text_field: TextField = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes; the result does not depend on it.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto or reference.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record or file that is damaged.")] = False,
    append: Annotated[
        bool | None, typer.Option("--append", help="Add the files that are new to the finished corpus.")
    ] = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Turn documents into a corpus directory of Megatron shards."""
    from data_prep.config import TokenizeConfig

    given: dict[str, object] = {"input": input, "output": output, "tokenizer": tokenizer, "text_field": text_field}
    given |= {"workers": workers, "engine": engine, "append": append, "overwrite": overwrite}
    given |= {"malformed": "stop", "damaged_files": "stop"} if strict else {}
    loaded = load(TokenizeConfig, config, given, settings)
    if print_config:
        return say(to_yaml(loaded))
    from data_prep.sharding.tokenization import summarize_tokenization, tokenize

    result = tokenize(loaded)
    if result.served:
        return
    say("\n".join(summarize_tokenization(result, loaded.output)))
    if result.manifest is not None:
        say(f"train: {pretrain_command(loaded.output)}")
        say_next("inspect", loaded.output, "--document", 0)


corpus_commands.register(app)


@contextmanager
def _tidy_when_stopped() -> Iterator[None]:
    """End by an exception, not abruptly, on SIGINT and SIGTERM: half-made outputs are removed on the way out."""
    me = os.getpid()

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != me:
            # A forked process, such as one that extracts text, which datatrove ends so: nobody stopped the command.
            os._exit(128 + number)
        print(f"stopped by {signal.Signals(number).name}; what is finished stays", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
