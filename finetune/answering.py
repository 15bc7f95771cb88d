"""Answers of a model that `qa` saved, to questions that are asked on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from configs.errors import ConfigError, DataError
from configs.paths import input_path


def answer_command(
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="PATH", parser=input_path, help="What `python -m finetune qa` wrote."),
    ],
    question: Annotated[list[str], typer.Option("--question", help="What is asked; can be given several times.")],
    context: Annotated[str, typer.Option("--context", help="The text that holds the answers.")],
) -> None:
    """Find the answers to questions in a text, as the saved model was measured."""
    for line in answers(model, question, context):
        print(json.dumps(line, ensure_ascii=False), flush=True)


def answers(folder: Path, questions: list[str], context: str) -> list[dict[str, Any]]:
    """Question, answer (empty: there is none) and its place in the context, for each question.

    Args:
        folder: what the task `qa` wrote.
        questions: what is asked.
        context: the text that holds the answers.

    Raises:
        UserError: it is no such folder, or a text is empty.
    """
    from finetune.predictors import load_predictor
    from finetune.tasks.qa_config import QaConfig
    from finetune.tasks.qa_texts import Question

    if not (folder / QaConfig.marker).is_file():
        raise DataError(f"holds no {QaConfig.marker}", where=folder, expected="what `python -m finetune qa` wrote")
    for name, text in (("--context", context), *(("--question", each) for each in questions)):
        if not text.strip():
            raise ConfigError("is empty", where=name, expected="a text")
    asked = [Question(str(number), text, context, (), "") for number, text in enumerate(questions)]
    return load_predictor(folder)(asked)
