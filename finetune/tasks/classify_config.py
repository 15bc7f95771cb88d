"""The declaration of classification: labelled texts, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


def label_text(value: object) -> object:
    """A label as it is written: whole numbers and true/false may be labels; anything else stays what it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


Label = Annotated[str, BeforeValidator(label_text)]


class ClassifyData(ExamplesData):
    """Labelled texts, and how they are split."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    text_field: str = "text"
    """Field that holds the text."""
    label_field: str = "label"
    """Field that holds the label: a string, a whole number or true/false."""
    labels: list[Label] | None = None
    """Labels that count, in the order of their numbers; others are left out. null: all that the training part has."""
    min_label_count: int = Field(default=1, ge=1)
    """Labels with fewer texts in `train_texts` are left out."""
    max_tokens: int = Field(default=256, ge=2)
    """Tokens of a text that are read, from its beginning, special ones included; at most the model's context."""
    append_end_of_document: bool = True
    """Whether that token closes each text, so that the new layer always reads the same token. An encoder reads the text
    between its classification and its separator token in any case."""


class ClassifyTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["macro_f1", "accuracy", "loss"] = "macro_f1"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""


class ClassifyConfig(TaskConfig):
    """A classifier made of a pretrained model."""

    implementation: ClassVar[str] = "finetune.tasks.classify:ClassifyTask"
    product: ClassVar[str] = "classifier"
    marker: ClassVar[str] = "classify.json"
    marker_keys: ClassVar[tuple[str, ...]] = ("source", "labels", "examples", "ran")
    files: ClassVar[tuple[str, ...]] = (
        "labels.json",
        "confusion-test.png",
        "confusion-validation.png",
        "mean_pooling.py",
    )
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "macro_f1": "highest",
        "accuracy": "highest",
        "loss": "lowest",
    }

    name: str = "classify"
    """`classify`."""
    data: ClassifyData
    """Labelled texts, and how they are split."""
    pooling: Literal["auto", "last", "first", "mean"] = "auto"
    """Where the new layer reads a text: at its last token (decoders), at its first, the classification token
    (encoders), or the mean of all (encoders; for all but ModernBERT by a class of ours that is saved with the model);
    auto: last for decoders, first for encoders, and the mean for a ModernBERT trained without special tokens."""
    training: ClassifyTraining = ClassifyTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a label counts in the loss as much as if all were equally frequent."""
    # The base's, and more.
    baselines: list[Literal["majority", "tfidf", "scratch"]] = ["majority", "tfidf"]  # type: ignore[assignment]
    """What is measured beside it on the same split: the most frequent label, TF-IDF with logistic regression, and the
    same network from random weights (which costs as much again)."""
