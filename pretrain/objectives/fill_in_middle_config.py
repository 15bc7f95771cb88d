"""The declaration of fill in the middle."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.model import ModelConfig
from pretrain.config.objective import SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.objectives.token_loss_config import TokenLossConfig

_SHORTEST = 8
"""Tokens: room for the sentinels and some text."""


class FillInMiddleConfig(TokenLossConfig):
    """Predict the next token, in documents of which some have their middle moved to the end (Bavarian et al. 2022)."""

    implementation: ClassVar[str] = "pretrain.objectives.fill_in_middle:FillInMiddleObjective"
    labels_are_tokens: ClassVar[bool] = True
    """In evaluations, whose `loss` is that of the text as it stands."""

    name: str = "fill_in_middle"
    """Which objective it is."""
    fim_rate: float = Field(default=0.5, ge=0, le=1)
    """Share of the documents that are rearranged; the others are read as they stand."""
    spm_rate: float = Field(default=0.5, ge=0, le=1)
    """Share of the rearranged ones that are written suffix, prefix, middle; the rest is prefix, suffix, middle."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """As causal samples are cut; the borders of documents are always needed."""
        return SampleCutting(TOKEN_STREAM, model.seq_length, overlap_tokens=1, marks_documents=True)

    def notes(self) -> list[str]:
        """See the base class."""
        return [
            f"fill in the middle: each rearranged document takes 3 places of its row for its sentinels, and the row's"
            f" last tokens are left out for them (fim_rate {self.fim_rate:g}); infill_dropped of a validation says"
            " which share of the text"
        ]

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        found = []
        if not model.is_causal:
            found.append(
                f"objective.name={self.name} asks for the next token, which model.name={model.name} reads; expected"
                " objective.name=masked, or a model that sees only what comes before, such as model.name=gpt"
            )
        if model.seq_length < _SHORTEST:
            found.append(
                f"model.seq_length {model.seq_length} has no room for the sentinels of objective.name={self.name};"
                f" at least {_SHORTEST} are needed"
            )
        return found

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return "fim_prefix", "fim_suffix", "fim_middle"
