"""The declaration of the causal objective."""

from __future__ import annotations

from typing import ClassVar

from pretrain.config.model import ModelConfig
from pretrain.config.objective import SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.objectives.token_loss_config import TokenLossConfig


class CausalConfig(TokenLossConfig):
    """Predict the next token at each position."""

    implementation: ClassVar[str] = "pretrain.objectives.causal:CausalObjective"
    labels_are_tokens: ClassVar[bool] = True

    name: str = "causal"
    """Which objective it is."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """Every token is a label once: samples share one token with the next."""
        return SampleCutting(TOKEN_STREAM, model.seq_length, overlap_tokens=1, marks_documents=documents_apart)

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        if model.is_causal:
            return []
        if model.is_encoder_decoder:
            return [
                f"objective.name=causal has no text for the encoder of model.name={model.name}; expected"
                " objective.name=span_corruption or text_infilling, or model.name=gpt"
            ]
        masked = "masked_pairs" if model.has_pair_head else "masked"
        return [
            f"objective.name=causal asks for the next token, which model.name={model.name} reads; expected"
            f" objective.name={masked}, or a model that sees only what comes before, such as model.name=gpt"
        ]
