"""Figures of a causal language model on files: perplexity of texts, right answers of multiple choice, the harness."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from data_prep.reading.inputs import InputFile
    from finetune.causal_model import CausalModel


@dataclass(frozen=True)
class Evaluation:
    """What is measured.

    Attributes:
        texts: files, directories or patterns of texts; a plain text file is one text.
        choices: the same of questions with several answers.
        text_field: field of a record that holds its text.
        stride: new tokens of each window of a long text; None: half of the model's context.
        delimiter: stands between a question and an answer.
        batch_size: windows, or answers, at a time.
        harness: a folder of tasks of the lm-evaluation-harness; None: none.
        harness_tasks: names of its tasks.
        limit: documents of a task of the harness; None: all.
    """

    texts: Sequence[str] = ()
    choices: Sequence[str] = ()
    text_field: str = "text"
    stride: int | None = None
    delimiter: str = " "
    batch_size: int = 8
    harness: Path | None = None
    harness_tasks: Sequence[str] = ()
    limit: int | None = None

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            ConfigError: names the option.
        """
        if not (self.texts or self.choices or self.harness):
            raise ConfigError("nothing to measure", where="command line", expected="--text, --choices or --harness")
        if (self.harness is None) != (not self.harness_tasks):
            raise ConfigError("needs the other", where="--harness and --harness-task", expected="both, or none")
        numbers = (("--stride", self.stride), ("--batch-size", self.batch_size), ("--limit", self.limit))
        for option, value in numbers:
            if value is not None and value < 1:
                raise ConfigError(f"is {value}", where=option, expected="1 or more")


def evaluate_model(model: Path, asked: Evaluation) -> dict[str, Any]:
    """Measure a model; JSON-able: `texts` and `choices` by file, `harness` by task.

    Args:
        model: a run, a checkpoint, or a Hugging Face directory with a causal language model.
        asked: what is measured.

    Raises:
        UserError: not such a model, files that cannot be read, or a loss that is no number.
    """
    asked.check()
    if asked.harness is not None:
        from finetune.harness import check_harness

        check_harness(asked.harness)
    import torch

    from finetune.causal_model import read_causal

    causal = read_causal(model)
    if asked.stride is not None and causal.context is not None and asked.stride > causal.context:
        raise ConfigError(f"is {asked.stride}", where="--stride", expected=f"at most {causal.context}, the context")
    causal.network.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    found: dict[str, Any] = {"model": str(model), "context": causal.context}
    if asked.texts:
        found["texts"] = {file.path: _text_figures(causal, file, asked) for file in _files(asked.texts, asked)}
    if asked.choices:
        found["choices"] = {file.path: _choice_figures(causal, file, asked) for file in _questions(asked)}
    if asked.harness is not None:
        from finetune.harness import run_harness

        found["harness"] = run_harness(causal, asked.harness, asked.harness_tasks, asked.batch_size, asked.limit)
    return found


def _text_figures(causal: CausalModel, file: InputFile, asked: Evaluation) -> dict[str, Any]:
    from finetune.text_evaluation import score_texts

    texts = (document.text for document, _ in _documents(file, asked.text_field))
    scored = score_texts(causal, texts, asked.stride, asked.batch_size)
    if not scored.scored:
        raise DataError("holds no token that could be predicted", where=file.path, expected="text")
    if not math.isfinite(scored.nats):
        raise UserError("the loss is no number", where=file.path, expected="weights that are finite")
    return scored.figures()


def _choice_figures(causal: CausalModel, file: InputFile, asked: Evaluation) -> dict[str, Any]:
    from finetune.multiple_choice import question_of, score_questions

    questions = [question_of(document, where) for document, where in _documents(file, "query")]
    if not questions:
        raise DataError("holds no questions", where=file.path, expected="records with query, choices and gold")
    return dict(vars(score_questions(causal, questions, asked.delimiter, asked.batch_size)))


def _files(patterns: Sequence[str], asked: Evaluation) -> list[InputFile]:
    from data_prep.reading.inputs import find_files

    return find_files(_source(patterns, asked.text_field))


def _questions(asked: Evaluation) -> list[InputFile]:
    files = _files(asked.choices, asked)
    for file in files:
        if file.kind not in ("jsonl", "json", "parquet", "arrow"):
            raise DataError(
                f"is {file.kind}", where=file.path, expected="JSON lines or Parquet with query, choices, gold"
            )
    return files


def _documents(file: InputFile, text_field: str) -> Iterator[tuple[Document, str]]:
    """The records of a file, and how messages name them; the first that cannot be read ends it."""
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import work_units
    from data_prep.reading.readers import read_documents

    source = _source([file.path], text_field)
    for unit in work_units([file], source):
        for document in read_documents(unit, source, ReadCounts()):
            yield document, f"{unit.path}, {document.id}"


def _source(patterns: Sequence[str], text_field: str) -> Any:
    from data_prep.config import SourceConfig

    return SourceConfig.model_validate({"input": list(patterns), "text_field": text_field, "malformed": "stop"})
