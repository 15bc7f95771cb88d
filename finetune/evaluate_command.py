"""`python -m finetune evaluate`: figures of a language model on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from configs.errors import ConfigError
from configs.paths import input_path, input_pattern, output_path
from data_prep.storage.publishing import staged_file

_Files = list[str] | None


def evaluate_command(
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", metavar="PATH", parser=input_path, help="A run's output directory, or an exported model."
        ),
    ],
    text: Annotated[
        _Files,
        typer.Option(
            "--text", "-t", metavar="PATH", parser=input_pattern, help="Texts to predict: perplexity; repeatable."
        ),
    ] = None,
    choices: Annotated[
        _Files,
        typer.Option(
            "--choices",
            metavar="PATH",
            parser=input_pattern,
            help="Questions: JSON lines with query, choices, gold; repeatable.",
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field that holds a text.")] = "text",
    stride: Annotated[
        int | None, typer.Option(help="New tokens of each window of a long text; default: half of the context.")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="Stands between a question and an answer.")] = " ",
    batch_size: Annotated[int, typer.Option(help="Windows, or answers, at a time; changes no figure.")] = 8,
    harness: Annotated[
        Path | None,
        typer.Option(metavar="PATH", parser=input_path, help="A folder of tasks of the lm-evaluation-harness."),
    ] = None,
    harness_task: Annotated[_Files, typer.Option(metavar="NAME", help="A task of that folder; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="Documents of a task of the harness; default: all.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="A .json file for all figures."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Measure a language model: perplexity and bits per byte, multiple choice, tasks of the lm-evaluation-harness."""
    from finetune.evaluate import Evaluation, evaluate_model

    if output is not None and output.suffix != ".json":
        raise ConfigError(f"is {output}", where="--output", expected="a .json file")
    if output is not None and output.exists() and not overwrite:
        raise ConfigError("exists already", where=output, expected="a new file, or --overwrite to replace this one")
    asked = Evaluation(
        text or [],
        choices or [],
        text_field,
        stride,
        delimiter,
        batch_size,
        harness,
        harness_task or [],
        limit,
    )
    found = evaluate_model(model, asked)
    for line in _lines(found):
        print(line, flush=True)
    if output is not None:
        with staged_file(output) as temporary:
            temporary.write_text(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        print(f"figures  {output}", flush=True)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for path, figures in found.get("texts", {}).items():
        counts = f"{figures['scored_tokens']:,} of {figures['tokens']:,} tokens, {figures['bytes']:,} bytes"
        rates = f"perplexity {figures['perplexity']:,.2f}  bits per byte {figures['bits_per_byte']:.4f}"
        lines.append(f"{path}: {rates}  ({figures['documents']:,} texts, {counts})")
    for path, figures in found.get("choices", {}).items():
        rates = f"accuracy {figures['accuracy']:.4f}  per byte {figures['accuracy_normalized']:.4f}"
        cut = f", {figures['cut']:,} cut at their beginning" if figures["cut"] else ""
        lines.append(f"{path}: {rates}  chance {figures['chance']:.4f}  ({figures['questions']:,} questions{cut})")
    for task, figures in found.get("harness", {}).items():
        lines.append(f"{task}: " + "  ".join(f"{name} {value}" for name, value in figures.items()))
    return lines
