"""The declaration of span corruption, the objective of T5."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from pretrain.config.model import ModelConfig
from pretrain.objectives.denoising_config import DenoisingConfig
from pretrain.objectives.span_lengths import SpanNoise


class SpanCorruptionConfig(DenoisingConfig):
    """Read a text without some of its spans, write these (Raffel et al. 2020, section 3.1.4)."""

    implementation: ClassVar[str] = "pretrain.objectives.span_corruption:SpanCorruptionObjective"

    name: str = "span_corruption"
    """Which objective it is."""
    noise_density: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens of a text that is dropped."""
    mean_span_length: float = Field(default=3.0, ge=1)
    """Tokens of a dropped span on average; how many spans there are follows from it, their lengths are drawn."""
    final_sentinel: bool = False
    """Whether one more sentinel stands at the end of a target, as in figure 2 of the paper. T5's own program writes
    none: its last span ends the text."""

    @model_validator(mode="after")
    def _keeps_enough(self) -> SpanCorruptionConfig:
        check_spans(self.noise_density, self.mean_span_length)
        return self

    @property
    def noise(self) -> SpanNoise:
        """What is dropped."""
        return SpanNoise(self.noise_density, self.mean_span_length)

    def text_tokens(self, model: ModelConfig) -> int:
        """See the base class: as many as make an input of exactly `model.seq_length`."""
        return self.noise.raw_length(model.seq_length)

    def target_tokens(self, model: ModelConfig) -> int:
        """See the base class."""
        return self.noise.target_length(self.text_tokens(model), final_sentinel=self.final_sentinel)

    def num_sentinels(self, model: ModelConfig) -> int:
        """See the base class."""
        _, spans = self.noise.counts(self.text_tokens(model))
        return spans + int(self.final_sentinel)

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return ("pad", "end_of_document")


def check_spans(density: float, mean_span_length: float) -> None:
    """Refuse spans of which there would be more than there are kept tokens to stand between them.

    Raises:
        ValueError: there would.
    """
    shortest = density / (1 - density)
    if mean_span_length < shortest:
        raise ValueError(
            f"noise_density {density} in spans of mean_span_length {mean_span_length} leaves fewer tokens than there"
            f" are spans; expected a mean_span_length of at least {shortest:g}"
        )
