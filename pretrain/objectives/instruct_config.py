"""The declaration of instruction tuning."""

from __future__ import annotations

from typing import ClassVar

from configs.errors import ConfigError
from pretrain.config.model import ModelConfig
from pretrain.config.sampling import CONVERSATIONS, ConversationCutting
from pretrain.objectives.token_loss_config import TokenLossConfig


class InstructConfig(TokenLossConfig):
    """Predict the tokens of conversations that are answers; each conversation is read alone."""

    implementation: ClassVar[str] = "pretrain.objectives.instruct:InstructObjective"

    name: str = "instruct"
    """Which objective it is."""
    packing: bool = True
    """Whether a sample holds as many conversations as have room; if not, one each. Losses are means over the answers'
    tokens of the global batch either way."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> ConversationCutting:
        """Whole conversations, whose tokens are all read; what a label is, is the next token within one.

        Raises:
            ConfigError: where documents are not to be apart.
        """
        if not documents_apart:
            raise ConfigError(
                f"is false, and a conversation of objective.name={self.name} never sees another",
                where="data.reset_attention_at_documents",
                expected="true",
            )
        return ConversationCutting(CONVERSATIONS, model.seq_length, marks_documents=True, packing=self.packing)

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        if model.is_causal and not model.is_encoder_decoder:
            return []
        return [
            f"objective.name={self.name} asks for the next token, and model.name={model.name} is no decoder that sees"
            " only what comes before; expected model.name=gpt"
        ]
