"""The declaration of distillation of language models: text, a teacher, a smaller model that learns from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from finetune.distillation.config import DistillationConfig
from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


class DistillData(ExamplesData):
    """Texts, and how they are split."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    text_field: str = "text"
    """Field that holds the text."""
    max_tokens: int = Field(default=256, ge=4)
    """Tokens of a text that are read, from its beginning, special ones included; at most what the contexts hold."""


class DistillTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["loss", "token_accuracy"] = "loss"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""


class DistillConfig(TaskConfig):
    """A decoder that learns from a larger one what follows in texts."""

    implementation: ClassVar[str] = "finetune.tasks.distill:DistillTask"
    adapted_as = "LM"
    distils: ClassVar[bool] = True
    marker: ClassVar[str] = "distill.json"
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {"loss": "lowest", "token_accuracy": "highest"}

    name: str = "distill"
    """`distill`: what follows in texts."""
    data: DistillData
    """Texts, and how they are split."""
    training: DistillTraining = DistillTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    # The base's may be left out.
    distillation: DistillationConfig
    """What is learned from which teacher."""
    # The base's, and one more.
    baselines: list[Literal["teacher", "pretrained", "scratch"]] = ["teacher", "pretrained"]  # type: ignore[assignment]
    """What is measured beside it on the same split: the teacher, the model as it was, and the same network from random
    weights (which costs as much again)."""
