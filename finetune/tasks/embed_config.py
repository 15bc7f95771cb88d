"""The declaration of sentence vectors: texts that belong together, and how a model learns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


class EmbedData(ExamplesData):
    """Pairs of texts that belong together, and how they are split."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    text_field: str = "text"
    """Field that holds a text, such as a question."""
    positive_field: str = "positive"
    """Field that holds a text that belongs to it, such as the answer."""
    negative_field: str | None = None
    """Field that holds a text that does not, though it may look so; null: only the other pairs' texts are negatives."""
    max_tokens: int = Field(default=128, ge=2)
    """Tokens of a text that are read, from its beginning, special ones included; at most the model's context."""


class EmbedTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["mrr", "recall_at_1", "loss"] = "mrr"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""


class EmbedConfig(TaskConfig):
    """A model that gives texts which belong together vectors of the same direction."""

    implementation: ClassVar[str] = "finetune.tasks.embed:EmbedTask"
    marker: ClassVar[str] = "embed.json"
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "mrr": "highest",
        "recall_at_1": "highest",
        "loss": "lowest",
    }

    name: str = "embed"
    """`embed`: this task."""
    data: EmbedData
    """Pairs of texts that belong together, and how they are split."""
    temperature: float = Field(default=0.05, gt=0)
    """What cosines are divided by in the loss: the smaller, the more the nearest wrong text counts."""
    training: EmbedTraining = EmbedTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    # The base's, and more.
    baselines: list[Literal["pretrained", "tfidf", "scratch"]] = ["pretrained", "tfidf"]  # type: ignore[assignment]
    """What is measured beside it on the same split: the vectors of the pretrained model, those of TF-IDF, and the same
    network from random weights (which costs as much again)."""

    @property
    def joins_micro_batch(self) -> bool:
        """See the base class; the other texts of a micro-batch are the wrong answers."""
        return True

    @model_validator(mode="after")
    def _has_others_to_compare(self) -> EmbedConfig:
        size = self.training.micro_batch_size or self.training.batch_size
        if size < 2 and self.data.negative_field is None:
            raise ValueError("the other texts of a micro-batch are the negatives; expected 2 samples or more in it")
        return self
