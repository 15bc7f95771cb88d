"""The commands of data preparation: `python -m data_prep COMMAND [--config RECIPE] [key=value ...]`.

Each command is a config class, so every setting can be given as `key=value`; the options are short forms of the
settings that are given most.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, TypeVar

import typer

from configs.errors import guarded
from configs.load import Section, find_recipe, load_config, to_yaml
from data_prep.clean_command import clean_command

app = typer.Typer(
    help="Raw text -> tokenizer -> memory-mapped shards of tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigClass = TypeVar("ConfigClass", bound=Section)

Recipe = Annotated[str | None, typer.Option("--config", "-c", help="A YAML file, or a recipe of configs/data_prep.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Any setting of the command.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print all settings as YAML and stop.")]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Replace the output if it exists.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="What to write.")]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="File, directory or pattern to read; can be given several times."),
]
TextField = Annotated[str | None, typer.Option("--text-field", help="Field or column that holds the text.")]
CorpusPath = Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus directory or a Megatron prefix.")]


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
    loaded = _load(SampleCorpusConfig, config, given, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from data_prep.sample_corpus import sample_corpus

    result = sample_corpus(loaded)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.by_kind.items(), key=lambda item: -item[1]))
    _print(f"{result.documents:,} documents, {result.text_bytes:,} bytes of text from {result.packages} packages")
    _print(f"  kinds  {kinds}\n  file   {loaded.output}")
    tokenizer = loaded.output.with_name("tokenizer")
    _next(f"train-tokenizer --config tokenizer-bpe-8k --input {loaded.output} --output {tokenizer}")


@app.command("train-tokenizer")
def train_tokenizer_command(
    settings: Settings = None,
    config: Recipe = None,
    input: Input = None,
    output: Output = None,
    algorithm: Annotated[str | None, typer.Option(help="bpe, unigram, char or word.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Number of ids.")] = None,
    text_field: TextField = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Learn a SentencePiece vocabulary from a sample of the text."""
    from data_prep.config import SourceConfig, TokenizerConfig

    given = {"input": input, "output": output, "algorithm": algorithm, "vocab_size": vocab_size}
    given |= {"text_field": text_field, "overwrite": overwrite}
    loaded = _load(TokenizerConfig, config, given, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from data_prep.tokenizer_training import describe, train_tokenizer

    _print("\n".join(describe(train_tokenizer(loaded), loaded.output)))
    source, corpus = " --input ".join(map(shlex.quote, loaded.input)), loaded.output.with_name("corpus")
    reading = loaded.model_dump(include=set(SourceConfig.model_fields) - {"input"}, exclude_defaults=True)
    settings = [f"{key}={value}" for key, value in reading.items()]
    _next(" ".join([f"tokenize --tokenizer {loaded.output} --input {source} --output {corpus}", *settings]))


app.command("clean")(clean_command)


@app.command("tokenize")
def tokenize_command(
    settings: Settings = None,
    config: Recipe = None,
    input: Input = None,
    output: Output = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer directory.")] = None,
    text_field: TextField = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes; the result does not depend on it.")] = None,
    skip_malformed: Annotated[
        bool, typer.Option("--skip-malformed", help="Leave out records that are damaged.")
    ] = False,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Turn documents into a corpus directory of Megatron shards."""
    from data_prep.config import TokenizeConfig

    given = {"input": input, "output": output, "tokenizer": tokenizer, "text_field": text_field, "workers": workers}
    given |= {"malformed": "skip" if skip_malformed else None, "overwrite": overwrite}
    loaded = _load(TokenizeConfig, config, given, settings)
    if print_config:
        return _print(to_yaml(loaded))
    from data_prep.tokenization import summarize, tokenize

    _print("\n".join(summarize(tokenize(loaded), loaded.output)))
    _next(f"inspect {loaded.output} --document 0")


@app.command("inspect")
def inspect_command(
    corpus: CorpusPath,
    document: Annotated[list[int] | None, typer.Option(help="Print the text of this document, from 0.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Decode with this tokenizer directory.")] = None,
) -> None:
    """Show what a corpus holds, and the text of single documents."""
    from data_prep.corpus import Corpus
    from data_prep.inspection import decode_document, describe_corpus
    from data_prep.tokenizer import Tokenizer

    opened = Corpus.open(corpus)
    if not document:
        return _print("\n".join(describe_corpus(opened)))
    decoder = Tokenizer.load(tokenizer) if tokenizer is not None else None
    for number in document:
        _print(decode_document(opened, number, decoder))


@app.command("verify")
def verify_command(corpus: CorpusPath) -> None:
    """Read a whole corpus and check its hashes, ids and counts."""
    from data_prep.corpus import Corpus
    from data_prep.inspection import verify_corpus

    for line in verify_corpus(Corpus.open(corpus)):
        _print(line)


@contextmanager
def _tidy_when_stopped() -> Iterator[None]:
    """End by an exception, not abruptly, on SIGINT and SIGTERM: half-made outputs are removed on the way out."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        print(f"stopped by {signal.Signals(number).name}; nothing was written", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _load(
    cls: type[ConfigClass], recipe: str | None, options: Mapping[str, object], settings: list[str] | None
) -> ConfigClass:
    source = find_recipe(recipe, "data_prep") if recipe is not None else None
    # Options become overrides: JSON is YAML, so values with special characters keep their meaning.
    given = [
        f"{key}={json.dumps(value if isinstance(value, bool | int | list) else str(value))}"
        for key, value in options.items()
        if value is not None and value != []
    ]
    return load_config(cls, source, given + list(settings or []))


def _print(text: str) -> None:
    print(text.rstrip("\n"), flush=True)


def _next(arguments: str) -> None:
    _print(f"next: python -m data_prep {arguments}")
