"""The declarations of BERT and RoBERTa."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pretrain.models.encoder.config import EncoderConfig

ROBERTA_PADDING_ID = 1
"""RoBERTa's positions are numbered from the id of its padding token + 1; the rows before that are never read."""


class BertConfig(EncoderConfig):
    """BERT (Devlin et al. 2019, arXiv:1810.04805): learned positions, token types, a head for pairs of sentences."""

    huggingface: ClassVar[tuple[str, ...]] = ("bert", "megatron-bert")

    name: str = "bert"
    """Which model family it is."""
    norm_placement: Literal["post", "pre"] = "post"
    """Norms after the residual sums (as published), or before the blocks (as Megatron's, without embedding norm)."""
    token_types: int = Field(default=2, gt=0)
    """Rows of the table that tells the first text of a pair from the second."""
    pooler: bool = True
    """Whether a pooled first token tells pairs apart (next sentence, sentence order)."""
    norm_epsilon: float = Field(default=1e-12, gt=0)
    """Added to the variance inside the norms."""
    activation: Literal["gelu", "gelu_tanh"] = "gelu"
    """Activation of the MLP and of the head; gelu_tanh is an approximation."""

    @property
    def is_post_norm(self) -> bool:
        """See the base class."""
        return self.norm_placement == "post"

    @property
    def has_embedding_norm(self) -> bool:
        """See the base class."""
        return self.is_post_norm

    @property
    def has_pair_head(self) -> bool:
        """See the base class."""
        return self.pooler

    @property
    def num_positions(self) -> int:
        """See the base class."""
        return self.seq_length

    @property
    def num_token_types(self) -> int:
        """See the base class."""
        return self.token_types

    @property
    def head_activation(self) -> Literal["gelu", "gelu_tanh"]:
        """See the base class."""
        return self.activation

    @property
    def residual_std(self) -> float:
        """Post-norm: as everywhere (published); pre-norm: less with depth (Megatron)."""
        return self.init_std if self.is_post_norm else super().residual_std


class RobertaConfig(EncoderConfig):
    """RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT without pairs, its positions numbered from 2."""

    huggingface: ClassVar[tuple[str, ...]] = ("roberta",)
    roles: ClassVar[tuple[str, ...]] = ("pad",)
    """Transformers' class counts positions from the padding token."""

    name: str = "roberta"
    """Which model family it is."""
    activation: Literal["gelu", "gelu_tanh"] = "gelu"
    """Activation of the MLP; gelu_tanh is an approximation. The head has gelu."""

    @property
    def is_post_norm(self) -> bool:
        """See the base class."""
        return True

    @property
    def num_positions(self) -> int:
        """See the base class."""
        return self.seq_length + self.first_position

    @property
    def first_position(self) -> int:
        """See the base class."""
        return ROBERTA_PADDING_ID + 1

    @property
    def num_token_types(self) -> int:
        """One: all tokens are of the same type, whose row is added all the same."""
        return 1

    @property
    def residual_std(self) -> float:
        """As everywhere (published)."""
        return self.init_std
