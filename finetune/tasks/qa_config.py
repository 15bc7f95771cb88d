"""The declaration of extractive question answering: questions, contexts, answers that stand in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


class QaData(ExamplesData):
    """Questions with their contexts, and how they are split: SQuAD's JSON (1.1 and 2.0), or a question per record."""

    question_field: str = "question"
    """Field of a record that holds the question."""
    context_field: str = "context"
    """Field that holds the text that the answer stands in."""
    answers_field: str = "answers"
    """Field that holds the answers: `{"text": [...], "answer_start": [...]}` or a list of `{"text": ...,
    "answer_start": ...}`, characters counted from 0; without any, the question has no answer."""
    max_tokens: int = Field(default=384, ge=8)
    """Tokens that are read at once, the question and special ones included; at most the model's context. Longer
    contexts are read in windows."""
    max_question_tokens: int = Field(default=64, ge=1)
    """Tokens of a question that are read, from its beginning; at most half of what is read at once."""
    stride: int = Field(default=128, ge=0)
    """Tokens of the context that two windows share, at most, and at most half of a window's."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """Tokens of the longest answer that is given."""


class QaTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["f1", "exact", "loss"] = "f1"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""


class QaConfig(TaskConfig):
    """A finder of answers in texts (extractive question answering) made of a pretrained model."""

    implementation: ClassVar[str] = "finetune.tasks.qa:QaTask"
    adapted_as = "QUESTION_ANS"
    product: ClassVar[str] = "answerer"
    marker: ClassVar[str] = "qa.json"
    marker_keys: ClassVar[tuple[str, ...]] = ("source", "examples", "form", "ran")
    files: ClassVar[tuple[str, ...]] = ()
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "f1": "highest",
        "exact": "highest",
        "loss": "lowest",
    }

    name: str = "qa"
    """`qa`: questions about texts."""
    data: QaData
    """Questions with their contexts, and how they are split."""
    training: QaTraining = QaTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    count_by: Literal["auto", "words", "characters"] = "auto"
    """What F1 counts: words as SQuAD's script does, or characters; auto: characters where the contexts of training are
    in a script without spaces (Chinese)."""
    no_answer_threshold: float = 0.0
    """How much more than the best answer the absence of one must score to be given; matters where training has
    questions without an answer. Else there always is an answer."""
