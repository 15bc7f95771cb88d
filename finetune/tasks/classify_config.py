"""The declaration of classification: labelled texts, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from configs.section import Section
from data_prep.config import Paths
from finetune.tasks.base_config import TaskConfig, TaskTraining


def label_text(value: object) -> object:
    """A label as it is written: whole numbers and true/false may be labels; anything else stays what it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


Label = Annotated[str, BeforeValidator(label_text)]


class ClassifyData(Section):
    """Labelled texts, and how they are split."""

    renamed: ClassVar[Mapping[str, str]] = {part: f"{part}_texts" for part in ("train", "validation", "test")}

    train_texts: Paths
    """Labelled texts: JSON lines, CSV, TSV (also .gz, .zst), Parquet, or a saved Hugging Face dataset."""
    validation_texts: Paths | None = None
    """Files that choose the best epoch; null: a part of `train_texts`, as `split` says."""
    test_texts: Paths | None = None
    """Files of the final figures; null: a part of `train_texts`, as `split` says, or none where that says 0."""
    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    text_field: str = "text"
    """Field that holds the text."""
    label_field: str = "label"
    """Field that holds the label: a string, a whole number or true/false."""
    id_field: str = "id"
    """Field that names a text in the predictions; where it is missing, file and position do."""
    labels: list[Label] | None = None
    """Labels that count, in the order of their numbers; others are left out. null: all that the training part has."""
    min_label_count: int = Field(default=1, ge=1)
    """Labels with fewer texts in `train_texts` are left out."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of `train_texts` that train, validate and test; the last two count only where no files are named. With a
    last share of 0 there is no test part."""
    split_by: str | None = None
    """Field whose equal values stay on one side of the split, such as `package`; null: the text itself."""
    max_tokens: int = Field(default=256, ge=2)
    """Tokens of a text that are read, from its beginning, special ones included; at most the model's context."""
    append_end_of_document: bool = True
    """Whether that token closes each text, so that the new layer always reads the same token. An encoder reads the text
    between its classification and its separator token in any case."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """Training texts, chosen by the seed; null: all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """The same for validation and for test."""

    @model_validator(mode="after")
    def _split_sums(self) -> ClassifyData:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.8, 0.1, 0.1]")
        return self


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
