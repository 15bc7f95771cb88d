"""The declaration of masked sequences, the objective of MASS."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from pretrain.config.model import ModelConfig
from pretrain.objectives.denoising_config import DenoisingConfig

SPECIALS_PER_ROW = 2
"""The classification token and the separator."""


class MaskedSequenceConfig(DenoisingConfig):
    """Read a text with one fragment masked, write the fragment (Song et al. 2019, section 3.2)."""

    implementation: ClassVar[str] = "pretrain.objectives.masked_sequence:MaskedSequenceObjective"

    name: str = "masked_sequence"
    """Which objective it is."""
    fragment_rate: float = Field(default=0.5, gt=0, le=1)
    """Share of the tokens of a text that the fragment has: round(rate x tokens), at least one."""
    replaced_by_mask: float = Field(default=0.8, ge=0, le=1)
    """Share of the fragment's tokens that the encoder reads as the mask token."""
    replaced_by_random: float = Field(default=0.1, ge=0, le=1)
    """Share that it reads as a random token, never a special one; the rest it reads as they are."""
    add_special_tokens: bool = True
    """Whether a text begins with the classification token and ends with the separator; if not, it ends with the
    end-of-document token. They are never in the fragment."""

    @model_validator(mode="after")
    def _shares_fit(self) -> MaskedSequenceConfig:
        if self.replaced_by_mask + self.replaced_by_random > 1 + 1e-9:
            raise ValueError(
                f"replaced_by_mask {self.replaced_by_mask} and replaced_by_random {self.replaced_by_random}"
                " sum to more than 1"
            )
        return self

    @property
    def puts_special_tokens(self) -> bool:
        """See the base class."""
        return self.add_special_tokens

    def fragment_tokens(self, length: int) -> int:
        """Tokens of the fragment of a text of `length`."""
        return min(max(round(length * self.fragment_rate), 1), length)

    def text_tokens(self, model: ModelConfig) -> int:
        """See the base class."""
        return model.seq_length - (SPECIALS_PER_ROW if self.add_special_tokens else 1)

    def target_tokens(self, model: ModelConfig) -> int:
        """See the base class: the fragment alone, without an end."""
        return self.fragment_tokens(self.text_tokens(model))

    def notes(self) -> list[str]:
        """See the base class."""
        return [
            "masked sequences: exported classes of transformers count the decoder's positions from 0 and show it the"
            " whole input; here it has the fragment's own positions, and does not see the fragment's places"
        ]

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return ("pad", "mask", *(("classification", "separator") if self.add_special_tokens else ("end_of_document",)))
