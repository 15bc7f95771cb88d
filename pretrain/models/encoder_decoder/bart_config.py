"""The declaration of BART (Lewis et al. 2020, arXiv:1910.13461) and its twin with norms before the blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pretrain.models.encoder_decoder.config import EncoderDecoderConfig, InitialStds

UNREAD_POSITIONS = 2
"""Rows of BART's tables of positions before the first token's; they are never read."""


class BartConfig(EncoderDecoderConfig):
    """BART: learned positions from 2, a norm after each embedding, biases, an output layer that is the embedding."""

    huggingface: ClassVar[tuple[str, ...]] = ("bart", "mbart")
    roles: ClassVar[tuple[str, ...]] = ("pad", "separator")
    decoder_start_role: ClassVar[str] = "separator"

    name: str = "bart"
    """Which model family it is."""
    norm_placement: Literal["post", "pre"] = "post"
    """Norms after the residual sums (as published), or before the blocks and at each stack's end (as mBART's)."""
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    """Activation of the MLP; gelu_tanh is an approximation."""
    scale_embedding: bool = False
    """Whether the tokens' vectors are multiplied by sqrt(hidden_size) (mBART)."""
    output_bias: bool = False
    """Whether a bias is added to the logits; it is what transformers calls final_logits_bias."""

    @property
    def is_post_norm(self) -> bool:
        """See the base class."""
        return self.norm_placement == "post"

    @property
    def has_embedding_norm(self) -> bool:
        """See the base class."""
        return True

    @property
    def has_output_bias(self) -> bool:
        """See the base class."""
        return self.output_bias

    @property
    def embedding_scale(self) -> float:
        """See the base class."""
        return self.hidden_size**0.5 if self.scale_embedding else 1.0

    @property
    def num_positions(self) -> int:
        """As many in both stacks, for the longer of the two texts."""
        return max(self.seq_length, self.target_length) + self.first_position

    @property
    def first_position(self) -> int:
        """See the base class."""
        return UNREAD_POSITIONS

    @property
    def stds(self) -> InitialStds:
        """The same everywhere (published)."""
        return InitialStds(*[self.init_std] * 8)
