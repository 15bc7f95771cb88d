"""What the network is: the sizes and choices that define a GPT, GPT-2 style to Llama style."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.load import Section


class ModelConfig(Section):
    """A decoder-only transformer. Pre-norm; causal attention; the loss is cross-entropy on the next token."""

    num_layers: int = Field(gt=0)
    """Transformer layers."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream."""
    num_attention_heads: int = Field(gt=0)
    """Query heads of each attention."""
    num_query_groups: int | None = Field(default=None, gt=0)
    """Key/value heads of each attention (grouped-query attention); null: as many as query heads."""
    ffn_hidden_size: int | None = Field(default=None, gt=0)
    """Inner width of the MLP; null: 4 x hidden_size, or 8/3 x hidden_size rounded up to 64 with swiglu."""
    seq_length: int = Field(gt=0)
    """Tokens in one sample; also the longest position that the model knows."""
    position_embedding: Literal["learned", "rope"] = "rope"
    """How positions enter: a learned table added to the tokens (GPT-2), or rotary (Llama)."""
    rotary_base: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "RMSNorm"
    """Kind of the norms."""
    norm_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the variance inside the norms."""
    activation: Literal["gelu", "gelu_tanh", "swiglu"] = "swiglu"
    """Activation of the MLP; gelu_tanh is GPT-2's approximation."""
    bias: bool = False
    """Whether the linear layers have biases."""
    tie_embeddings: bool = True
    """Whether the output layer shares the input embedding's weights."""
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an element of each residual branch and of the embedding."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an attention weight."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights; the residual outputs get it divided by sqrt(2 num_layers)."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Token ids that the model knows; null: taken from the corpus' tokenizer when the run starts."""
    vocab_multiple: int = Field(default=128, gt=0)
    """The embedding is padded to a multiple of this; fixed per run, never derived from the layout."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of"
                f" num_query_groups {self.num_query_groups}"
            )
        if self.position_embedding == "rope" and self.head_size % 2:
            raise ValueError(f"rotary positions need an even head size; hidden_size / heads is {self.head_size}")
        return self

    @property
    def query_groups(self) -> int:
        """Key/value heads of each attention."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def ffn_size(self) -> int:
        """Inner width of the MLP."""
        if self.ffn_hidden_size is not None:
            return self.ffn_hidden_size
        if self.activation == "swiglu":
            return -(-8 * self.hidden_size // 3 // 64) * 64
        return 4 * self.hidden_size

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding.

        Raises:
            ValueError: while `vocab_size` is null.
        """
        if self.vocab_size is None:
            raise ValueError("vocab_size is not known yet")
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    def num_parameters(self, *, embedding: bool = True) -> int:
        """How many weights the model has (tied ones once; padded vocabulary rows counted).

        Args:
            embedding: False leaves out the token and position tables, but keeps the output layer's matrix product,
                which is what a count of floating-point operations wants.
        """
        hidden, ffn = self.hidden_size, self.ffn_size
        kv = self.query_groups * self.head_size
        fc1 = ffn * (2 if self.activation == "swiglu" else 1)
        biases = (hidden + 2 * kv + hidden + fc1 + hidden) if self.bias else 0
        norm = hidden * (2 if self.normalization == "LayerNorm" else 1)
        layer = hidden * (hidden + 2 * kv) + hidden * hidden + hidden * fc1 + ffn * hidden + biases + 2 * norm
        table = self.padded_vocab_size * hidden
        if not embedding:
            return self.num_layers * layer + norm + table
        positions = self.seq_length * hidden if self.position_embedding == "learned" else 0
        return self.num_layers * layer + norm + positions + table * (1 if self.tie_embeddings else 2)

    def flops_per_token(self) -> float:
        """Floating-point operations that one trained token needs: 6 N + 12 L d T, non-causal, recompute excluded."""
        attention = 12 * self.num_layers * self.hidden_size * self.seq_length
        return 6 * self.num_parameters(embedding=False) + attention
