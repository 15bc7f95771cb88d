"""The declaration of preference learning: what is better than what, and how a model learns it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from configs.paths import OutputPath
from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData

Method = Literal["dpo", "ipo", "orpo", "kto"]


class PreferData(ExamplesData):
    """Prompts with a chosen and a rejected completion, or with one that is labelled good or bad (KTO)."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    prompt_field: str = "prompt"
    """Field that holds the prompt: a text, or messages with `role` and `content`."""
    chosen_field: str = "chosen"
    """Field that holds the better completion: a text, or messages, which may begin with those of the prompt."""
    rejected_field: str = "rejected"
    """Field that holds the worse completion, likewise."""
    completion_field: str = "completion"
    """KTO: field that holds a completion, likewise."""
    label_field: str = "label"
    """KTO: field that says whether the completion is good: true or false, 1 or 0."""
    max_prompt_tokens: int = Field(default=256, ge=4)
    """Tokens of a prompt that are read, from its beginning; at most what the context leaves."""
    max_completion_tokens: int = Field(default=256, ge=2)
    """Tokens of a completion that count, special ones included; a longer one is cut, and not closed."""


class PreferTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["loss", "accuracy", "reward_margin"] = "loss"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""


class PreferConfig(TaskConfig):
    """A language model that writes what is preferred."""

    implementation: ClassVar[str] = "finetune.tasks.prefer:PreferTask"
    adapted_as = "LM"
    marker: ClassVar[str] = "prefer.json"
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "loss": "lowest",
        "accuracy": "highest",
        "reward_margin": "highest",
    }

    name: str = "prefer"
    """`prefer`."""
    loss: Method = "dpo"
    """dpo: Rafailov et al. 2023; ipo: Azar et al. 2023; orpo: Hong et al. 2024, without a reference model; kto:
    Ethayarajh et al. 2024, from single labelled completions."""
    beta: float = Field(default=0.1, gt=0)
    """dpo, kto: what a log-probability ratio of 1 is worth, smaller for a model that may go farther from its start;
    ipo: its regularization (tau); orpo: the weight of the odds ratio beside the log-likelihood (lambda)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """dpo: share of the pairs that are taken to be labelled the wrong way round."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """kto: what a good completion counts."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """kto: what a bad completion counts."""
    reference_cache: OutputPath | None = None
    """Directory for the log-probabilities that the pretrained model gives all completions, computed once and found
    again by a hash of its weights and of the completions; null: `reference-cache` beside `output`."""
    data: PreferData
    """Prompts and completions, and how they are split."""
    training: PreferTraining = PreferTraining()
    """How long, how much at a time, how precise, and which weights are kept."""

    @property
    def joins_micro_batch(self) -> bool:
        """See the base class; KTO's mean divergence."""
        return self.method == "kto"

    @property
    def reference_folder(self) -> Path:
        """Where the log-probabilities of the pretrained model are kept."""
        return self.reference_cache or self.output.parent / "reference-cache"

    def placed_beside(self) -> dict[str, Any]:
        """See the base class."""
        return {} if self.method == "orpo" else {"reference_cache": self.reference_folder}

    @model_validator(mode="after")
    def _keys_are_of_the_method(self) -> PreferConfig:
        readers = {
            "label_smoothing": ("dpo",),
            "desirable_weight": ("kto",),
            "undesirable_weight": ("kto",),
            "reference_cache": ("dpo", "ipo", "kto"),
        }
        for key, methods in readers.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.loss not in methods:
                raise ValueError(f"{key} is set, which loss={self.loss} does not read; {' and '.join(methods)} do")
        size = self.training.micro_batch_size or self.training.batch_size
        if self.loss == "kto" and size < 2:
            raise ValueError("loss=kto compares the completions of a micro-batch; expected 2 samples or more in it")
        return self
