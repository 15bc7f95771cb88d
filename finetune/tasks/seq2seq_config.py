"""The declaration of text-to-text tasks: translation, summarisation and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from configs.section import Section
from finetune.augmentation.config import CHANGES
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.examples_config import ExamplesData

SOURCE = "{source}"
"""What a prompt template has in place of the source text."""
GENERATED_FIGURES = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match")
"""Figures of generated text, from 0 to 100."""


class Seq2SeqData(ExamplesData):
    """Pairs of a source and a target text, and how they are split."""

    quoting: Literal["double", "none"] | None = None
    """Whether CSV and TSV fields may stand in double quotes; null: those of CSV may, those of TSV where all fields of
    the first line do."""
    source_field: str = "source"
    """Field that holds what is read."""
    target_field: str = "target"
    """Field that holds what is to be written."""
    max_source_tokens: int = Field(default=256, ge=4)
    """Tokens of the source that are read, the prompt and special tokens included; at most what the context leaves."""
    max_target_tokens: int = Field(default=128, ge=2)
    """Tokens of the target that are learned, special ones included; a longer one is cut, and not closed."""


class GenerationSettings(Section):
    """How the trained model writes; saved with it as `generation_config.json`."""

    num_beams: int = Field(default=4, ge=1)
    """Width of the beam search; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the length by which the score of a beam is divided: above 0, more is longer."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Tokens that are written, at most; null: `data.max_target_tokens`."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    """Runs of this many tokens that are written once at most; 0: no such rule."""
    at_validation: bool = False
    """Whether validations write, too, and may select by figures of what was written; else they read the target."""
    counted: Literal["auto", "words", "chinese", "characters"] = "auto"
    """What figures count: words (BLEU's 13a), words with Chinese characters apart (BLEU's zh; ROUGE by characters), or
    characters; auto: as the scripts of the target texts say."""

    @model_validator(mode="after")
    def _penalty_has_beams(self) -> GenerationSettings:
        if self.num_beams == 1 and self.length_penalty != 1.0:
            raise ValueError(f"length_penalty is {self.length_penalty}, which only beams read; num_beams is 1")
        return self


class Seq2SeqConfig(TaskConfig):
    """A model that writes a target text for a source text."""

    implementation: ClassVar[str] = "finetune.tasks.seq2seq:Seq2SeqTask"
    adapted_as = "LM"
    augments: ClassVar[tuple[str, ...]] = CHANGES
    marker: ClassVar[str] = "seq2seq.json"
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "loss": "lowest",
        "token_accuracy": "highest",
        **dict.fromkeys(GENERATED_FIGURES, "highest"),  # type: ignore[dict-item]
    }

    name: str = "seq2seq"
    """`seq2seq`."""
    data: Seq2SeqData
    """Pairs of a source and a target text, and how they are split."""
    prompt: str | None = None
    """What the model reads, with `{source}` for the source text; null: the source alone, for a decoder with a line feed
    after it. T5's own are such as `summarize: {source}`."""
    generation: GenerationSettings = GenerationSettings()
    """How the trained model writes."""
    # The base's, and more.
    baselines: list[Literal["copy", "lead", "scratch"]] = ["copy", "lead"]  # type: ignore[assignment]
    """What is measured beside it: the source itself, its first sentence (what summaries have to beat), and the same
    network from random weights (which costs as much again)."""

    @model_validator(mode="after")
    def _prompt_has_its_place(self) -> Seq2SeqConfig:
        if self.prompt is not None and self.prompt.count(SOURCE) != 1:
            raise ValueError(f"prompt is {self.prompt!r}; expected a text with {SOURCE} in it once")
        return self

    @model_validator(mode="after")
    def _writes_where_it_selects_by_it(self) -> Seq2SeqConfig:
        if self.training.select_by in GENERATED_FIGURES and not self.generation.at_validation:
            raise ValueError(
                f"training.select_by={self.training.select_by} is a figure of written text; expected"
                " generation.at_validation=true with it, or select_by=loss"
            )
        if self.generation.at_validation and self.training.zero_stage == 3:
            raise ValueError(
                "generation.at_validation=true does not work with training.zero_stage=3; expected 0, 1 or 2"
            )
        return self
