"""`python -m finetune attribute`: a page of what a saved classifier goes by in the texts of files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import ConfigError, DataError
from configs.paths import input_path, input_pattern, output_path


def attribute_command(
    model: Annotated[
        Path, typer.Option("--model", "-m", metavar="PATH", parser=input_path, help="What `classify` wrote.")
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
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="An .html file.")],
    records: Annotated[int, typer.Option(metavar="N", help="The first so many texts; 0: all.")] = 10,
    id: Annotated[list[str] | None, typer.Option(help="Only the text with this id; repeatable.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Whose logit is explained; without it, that of the most probable label.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Of the path from padding to the text.")] = 64,
    text_field: Annotated[
        str | None, typer.Option(help="Field that holds the text; without it, as the model was trained.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Show which tokens a classifier goes by, as a page (integrated gradients)."""
    for name, value, least in (("--records", records, 0), ("--steps", steps, 1)):
        if value < least:
            raise ConfigError(f"is {value}", where=name, expected=f"{least} or more")
    if output.suffix not in (".html", ".htm"):
        raise ConfigError(f"is {output}", where="--output", expected="a file with the ending .html")
    if output.is_dir() or (output.exists() and not overwrite):
        raise ConfigError("exists already", where=output, expected="a new file, or --overwrite to replace this one")
    if find_spec("captum") is None:
        from configs.extras import install_command

        raise ConfigError("is not installed", where="captum", expected=install_command("attribution"))
    page, large = _page(model, input, records, id or [], label, steps, text_field)
    from data_prep.storage.publishing import staged_file

    with staged_file(output) as temporary:
        temporary.write_text(page, "utf-8")
    print(f"page         {output}", flush=True)
    if large:
        print(f"note: the scores of {large:,} texts miss more than 5 % of what they explain; more --steps", flush=True)


def _page(
    model: Path, input: list[str], records: int, ids: list[str], label: str | None, steps: int, text_field: str | None
) -> tuple[str, int]:
    """The page, and how many texts are explained badly."""
    from itertools import islice

    from finetune.attribution.gradients import Attributor
    from finetune.attribution.page import is_large, page_text
    from finetune.prediction_input import InputRecords, PredictInput
    from finetune.predictors import Classifier, load_predictor

    classifier = load_predictor(model)
    if not isinstance(classifier, Classifier):
        raise ConfigError(f"is {model}", where="--model", expected="what the task classify wrote")
    attribute = Attributor(classifier, label, steps)
    given = PredictInput(input, text_field)
    every = InputRecords(classifier.form(given), given)
    chosen = list(islice((each for each in every if not ids or each.id in ids), records or None))
    missing = sorted(set(ids) - {each.id for each in chosen}) if len(chosen) < (records or len(chosen) + 1) else []
    if missing:
        raise DataError(f"has no text with the id {missing[0]!r}", where="--input", expected="ids that are there")
    if not chosen:
        raise DataError("holds no texts", where="--input", expected="at least one")
    found = [attribute(record) for record in chosen]
    return page_text(found, f"What {model.name} goes by"), sum(map(is_large, found))
