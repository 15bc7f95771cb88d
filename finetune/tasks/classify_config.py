"""The declaration of classification: labelled texts, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from finetune.augmentation.config import CHANGES
from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


def label_text(value: object) -> object:
    """A label as it is written: whole numbers and true/false may be labels; anything else stays what it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
FIGURES: Mapping[str, tuple[str, ...]] = {
    "single_label_classification": ("macro_f1", "accuracy", "matthews", "loss"),
    "multi_label_classification": ("macro_f1", "micro_f1", "accuracy", "loss"),
    "regression": ("pearson", "spearman", "loss"),
}
"""Validation figures of each problem."""
Label = Annotated[str, BeforeValidator(label_text)]


class ClassifyData(ExamplesData):
    """Labelled texts, and how they are split."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    text_field: str = "text"
    """Field that holds the text."""
    text_pair_field: str | None = None
    """Field that holds a second text, such as the hypothesis of an entailment: both are read together, the longer one
    cut first; null: single texts."""
    label_field: str = "label"
    """Field that holds the label: a string, a whole number or true/false; a list of these where texts have any number
    of labels; a number in a regression."""
    labels: list[Label] | None = None
    """Labels that count, in the order of their numbers; others are left out. null: all that the training part has."""
    min_label_count: int = Field(default=1, ge=1)
    """Labels with fewer texts in `train_texts` are left out."""
    max_tokens: int = Field(default=256, ge=2)
    """Tokens of a text that are read, from its beginning, special ones included; at most the model's context."""
    append_end_of_document: bool = True
    """Whether that token closes each text, so that the new layer always reads the same token. An encoder reads the text
    between its classification and its separator token in any case, and pairs are always closed so."""


class ClassifyTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["macro_f1", "micro_f1", "accuracy", "matthews", "pearson", "spearman", "loss"] = "macro_f1"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss. Of a regression
    `pearson`, unless told otherwise."""


class ClassifyConfig(TaskConfig):
    """A classifier made of a pretrained model."""

    implementation: ClassVar[str] = "finetune.tasks.classify:ClassifyTask"
    adapted_as = "SEQ_CLS"
    augments: ClassVar[tuple[str, ...]] = CHANGES
    distils: ClassVar[bool] = True
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
        "micro_f1": "highest",
        "accuracy": "highest",
        "matthews": "highest",
        "pearson": "highest",
        "spearman": "highest",
        "loss": "lowest",
    }

    name: str = "classify"
    """`classify`."""
    problem_type: ProblemType = "single_label_classification"
    """What is asked, as transformers calls it: one label of each text; any number of labels, each chosen from a
    probability of 0.5 on; or a number."""
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

    @model_validator(mode="before")
    @classmethod
    def _select_a_regression_by_its_own_figure(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("problem_type") == "regression":
            training = raw.get("training") or {}
            if isinstance(training, Mapping) and "select_by" not in training:
                return {**raw, "training": {**training, "select_by": "pearson"}}
        return raw

    @model_validator(mode="after")
    def _problem_fits(self) -> ClassifyConfig:
        problems = []
        known = FIGURES[self.problem_type]
        if self.training.select_by not in known:
            problems.append(
                f"training.select_by is {self.training.select_by!r}, and the figures of {self.problem_type} are"
                f" {', '.join(known)}"
            )
        if self.class_weights != "none" and self.problem_type != "single_label_classification":
            problems.append(f"class_weights is of single labels, and problem_type is {self.problem_type}")
        if self.problem_type == "regression" and (self.data.labels is not None or self.data.min_label_count > 1):
            problems.append("data.labels and data.min_label_count are of labels, and problem_type is regression")
        if self.data.text_pair_field is not None and not self.data.append_end_of_document:
            problems.append("data.append_end_of_document=false is of single texts, and data.text_pair_field is given")
        if problems:
            raise ValueError("; ".join(problems))
        return self
