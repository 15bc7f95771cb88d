"""The commands about tokenizers: `train-tokenizer`, `import-tokenizer`, `tokenizer-report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from configs.paths import input_path, output_path
from data_prep.commands.command_line import (
    Input,
    Output,
    Overwrite,
    PrintConfig,
    Recipe,
    Settings,
    TextField,
    load,
    say,
    say_next,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line of the room."""
    app.command("train-tokenizer")(train_tokenizer_command)
    app.command("import-tokenizer")(import_tokenizer_command)
    app.command("tokenizer-report")(tokenizer_report_command)


def train_tokenizer_command(
    settings: Settings = None,
    config: Recipe = None,
    input: Input = None,
    output: Output = None,
    algorithm: Annotated[str | None, typer.Option(help="bpe, unigram, char or word.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Number of ids.")] = None,
    sample_bytes: Annotated[int | None, typer.Option(help="Bytes of text to learn from.")] = None,
    text_field: TextField = None,
    overwrite: Overwrite = None,
    print_config: PrintConfig = False,
) -> None:
    """Learn a SentencePiece vocabulary from a sample of the text."""
    from configs.load import to_yaml
    from data_prep.config import SourceConfig, TokenizerConfig

    given = {"input": input, "output": output, "algorithm": algorithm, "vocab_size": vocab_size}
    given |= {"sample_bytes": sample_bytes, "text_field": text_field, "overwrite": overwrite}
    loaded = load(TokenizerConfig, config, given, settings)
    if print_config:
        return say(to_yaml(loaded))
    from data_prep.tokenizer.importing import describe_tokenizer
    from data_prep.tokenizer.training import train_tokenizer

    say("\n".join(describe_tokenizer(train_tokenizer(loaded), loaded.output)))
    source = [word for path in loaded.input for word in ("--input", path)]
    reading = loaded.model_dump(include=set(SourceConfig.model_fields) - {"input"}, exclude_defaults=True)
    settings = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in reading.items()]
    corpus = loaded.output.with_name("corpus")
    say_next("tokenize", "--tokenizer", loaded.output, *source, "--output", corpus, *settings)


def import_tokenizer_command(
    source: Annotated[
        Path,
        typer.Argument(
            parser=input_path,
            metavar="SOURCE",
            help="A .model, tokenizer.json, .tiktoken or vocab.txt, or their directory.",
        ),
    ],
    roles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[role=spelling ...]", help="Which token plays a role; `none`: no token does."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="The tokenizer directory to write."),
    ] = ...,  # type: ignore[assignment]
    encoding: Annotated[
        str | None,
        typer.Option(help="Pattern and special tokens of a .tiktoken file: a name that tiktoken knows, or a file."),
    ] = None,
    lower_case: Annotated[
        bool | None,
        typer.Option("--lower-case/--keep-case", help="Of a vocab.txt: make text lower case; else as its files say."),
    ] = None,
    strip_accents: Annotated[
        bool | None,
        typer.Option("--strip-accents/--keep-accents", help="Of a vocab.txt: take accents off; else as the case."),
    ] = None,
    split_chinese: Annotated[
        bool | None,
        typer.Option("--split-chinese/--join-chinese", help="Of a vocab.txt: each Chinese character is a word."),
    ] = None,
    overwrite: Overwrite = None,
) -> None:
    """Make a tokenizer directory of a vocabulary of another project."""
    from data_prep.tokenizer.importing import describe_tokenizer, import_tokenizer, parse_roles
    from data_prep.tokenizer.wordpiece import Normalization

    if encoding is not None:
        encoding = str(input_path(encoding))
    normalization = Normalization(lower_case, strip_accents, split_chinese)
    tokenizer = import_tokenizer(source, output, parse_roles(roles), encoding, bool(overwrite), normalization)
    say("\n".join(describe_tokenizer(tokenizer, output)))
    say_next("tokenizer-report", output, "--input", "TEXT")


def tokenizer_report_command(
    tokenizers: Annotated[
        list[str] | None, typer.Argument(metavar="TOKENIZER ... [key=value ...]", help="Tokenizers of any kind.")
    ] = None,
    config: Recipe = None,
    input: Input = None,
    group_by: Annotated[str | None, typer.Option(help="Field of the records that gets a row per value.")] = None,
    sample_bytes: Annotated[int | None, typer.Option(help="Bytes of text to measure on.")] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="PATH", help="Write the figures there as well.")
    ] = None,
    text_field: TextField = None,
    print_config: PrintConfig = False,
) -> None:
    """Measure tokenizers on a sample of the text: bytes per token, fertility, unknown, bytes, round trip."""
    from configs.load import to_yaml
    from data_prep.tokenizer.report_config import TokenizerReportConfig

    paths = [word for word in tokenizers or [] if "=" not in word or Path(word).exists()]
    settings = [word for word in tokenizers or [] if word not in paths]
    given: dict[str, object] = {"tokenizers": paths, "input": input, "group_by": group_by, "sample_bytes": sample_bytes}
    given |= {"json_file": json_file, "text_field": text_field}
    loaded = load(TokenizerReportConfig, config, given, settings)
    if print_config:
        return say(to_yaml(loaded))
    from data_prep.storage.publishing import staged_file
    from data_prep.tokenizer.report import measure_tokenizers
    from data_prep.tokenizer.report_table import table_lines

    report = measure_tokenizers(loaded)
    say("\n".join(table_lines(report)))
    if loaded.json_file is not None:
        with staged_file(loaded.json_file) as temporary:
            temporary.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
