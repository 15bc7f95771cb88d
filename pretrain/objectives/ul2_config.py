"""The declaration of the mixture of denoisers, the objective of UL2."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from configs.section import Section
from pretrain.config.model import ModelConfig
from pretrain.objectives.denoising_config import DenoisingConfig
from pretrain.objectives.span_corruption_config import check_spans
from pretrain.objectives.span_lengths import SpanNoise

Mode = Literal["regular", "sequential", "extreme"]


class DenoiserConfig(Section):
    """One way to drop spans."""

    mode: Mode
    """Which mode token its inputs begin with."""
    noise_density: float = Field(gt=0, lt=1, examples=[0.15])
    """Share of the tokens of a text that is dropped."""
    mean_span_length: float | None = Field(ge=1, examples=[3])
    """Tokens of a dropped span on average; null: the end of the text is dropped in one span (a prefix is kept)."""
    weight: float = Field(default=1.0, gt=0)
    """How often it is drawn, relative to the others."""

    @model_validator(mode="after")
    def _keeps_enough(self) -> DenoiserConfig:
        if self.mean_span_length is not None:
            check_spans(self.noise_density, self.mean_span_length)
        return self

    @property
    def noise(self) -> SpanNoise:
        """What is dropped."""
        return SpanNoise(self.noise_density, self.mean_span_length)

    @property
    def role(self) -> str:
        """The role of its mode token."""
        return f"{self.mode}_denoising"

    @property
    def label(self) -> str:
        """What its figures are called, such as `regular_3_0.15`."""
        length = "end" if self.mean_span_length is None else f"{self.mean_span_length:g}"
        return f"{self.mode}_{length}_{self.noise_density:g}"


def _published() -> list[DenoiserConfig]:
    """Table 1 of the paper."""
    rows: list[tuple[Mode, float | None, float]] = [
        ("regular", 3, 0.15),
        ("regular", 8, 0.15),
        ("sequential", None, 0.25),
        ("extreme", 3, 0.5),
        ("extreme", 8, 0.5),
        ("extreme", 64, 0.15),
        ("extreme", 64, 0.5),
    ]
    return [DenoiserConfig(mode=mode, mean_span_length=length, noise_density=density) for mode, length, density in rows]


class MixtureOfDenoisersConfig(DenoisingConfig):
    """Span corruption in one of several ways, drawn for each sample (Tay et al. 2022, UL2, section 3.1.2)."""

    implementation: ClassVar[str] = "pretrain.objectives.ul2:MixtureOfDenoisersObjective"

    name: str = "ul2"
    """Which objective it is."""
    denoisers: list[DenoiserConfig] | None = Field(default=None, min_length=1)
    """What is drawn from; null, as published: regular (mean span length 3, density 0.15) and (8, 0.15), sequential (the
    last 0.25), extreme (3, 0.5), (8, 0.5), (64, 0.15) and (64, 0.5), all equally often."""
    mode_tokens: bool = True
    """Whether an input begins with the token of its mode."""

    @field_validator("denoisers")
    @classmethod
    def _told_apart(cls, denoisers: list[DenoiserConfig] | None) -> list[DenoiserConfig] | None:
        labels = [denoiser.label for denoiser in denoisers or ()]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]} is there twice; expected each once, with a weight")
        return denoisers

    @property
    def mixture(self) -> list[DenoiserConfig]:
        """What is drawn from."""
        return self.denoisers or _published()

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        return super().resolved() | {"denoisers": [denoiser.model_dump(mode="json") for denoiser in self.mixture]}

    def text_tokens(self, model: ModelConfig) -> int:
        """See the base class: as many as have room whichever denoiser is drawn, so that each token is read."""
        room = model.seq_length - int(self.mode_tokens)
        return min(denoiser.noise.raw_length(room) for denoiser in self.mixture)

    def target_tokens(self, model: ModelConfig) -> int:
        """See the base class."""
        text = self.text_tokens(model)
        return max(denoiser.noise.target_length(text, final_sentinel=False) for denoiser in self.mixture)

    def num_sentinels(self, model: ModelConfig) -> int:
        """See the base class."""
        text = self.text_tokens(model)
        return max(denoiser.noise.counts(text)[1] for denoiser in self.mixture)

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        modes = dict.fromkeys(denoiser.role for denoiser in self.mixture) if self.mode_tokens else ()
        return ("pad", "end_of_document", *modes)
