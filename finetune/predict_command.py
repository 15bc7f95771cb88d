"""`python -m finetune predict`: what a model that a task saved says of the texts of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.errors import ConfigError
from configs.paths import input_path, input_pattern, output_path


def predict_command(
    model: Annotated[
        Path, typer.Option("--model", "-m", metavar="PATH", parser=input_path, help="What a task of finetune wrote.")
    ],
    input: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="PATH",
            parser=input_pattern,
            help="Texts: records, or a text in each line; repeatable.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="A .jsonl or .csv file.")
    ],
    text_field: Annotated[
        str | None, typer.Option(help="Field that holds the text; without it, as the model was trained.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field that names a record in the output.")] = "id",
    batch_size: Annotated[int, typer.Option(help="Texts at a time; changes no prediction.")] = 32,
    max_bad_share: Annotated[
        float, typer.Option(help="Share of the records that may be unusable: left out and counted.")
    ] = 0.01,
    encoding: Annotated[
        str | None, typer.Option(help="Of the files, such as gb18030; without it, as the model was trained.")
    ] = None,
    quoting: Annotated[
        Literal["double", "none"] | None,
        typer.Option(help="Of tables, double or none; without it, as the model was trained."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Apply a fine-tuned model to texts of files."""
    from finetune.predict import check_predictions_file, predict_file
    from finetune.prediction_input import PredictInput
    from finetune.predictors import load_predictor

    if batch_size < 1:
        raise ConfigError(f"is {batch_size}", where="--batch-size", expected="1 or more")
    if not 0 <= max_bad_share <= 1:
        raise ConfigError(f"is {max_bad_share}", where="--max-bad-share", expected="a share from 0 to 1")
    if encoding is not None:
        encoding = _known(encoding)
    check_predictions_file(output, overwrite)
    given = PredictInput(input, text_field, id_field, max_bad_share, encoding, quoting)
    done = predict_file(load_predictor(model), given, output, batch_size)
    print(f"predictions  {output}  ({done.texts:,})", flush=True)
    if done.bad:
        print(f"left out     {done.bad:,} bad records, the first {done.first_bad}", flush=True)


def _known(encoding: str) -> str:
    from data_prep.reading.encodings import canonical_encoding

    try:
        return canonical_encoding(encoding)
    except ValueError as error:
        raise ConfigError(str(error), where="--encoding") from None
