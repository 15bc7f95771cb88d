"""The declaration of T5 (Raffel et al. 2020, arXiv:1910.10683), as first published and as version 1.1."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pretrain.models.encoder_decoder.config import EncoderDecoderConfig, InitialStds


class T5Config(EncoderDecoderConfig):
    """T5: norms before the blocks, no biases, no positions but a relative bias on attention scores.

    Version 1.1 is the default; the first one is `activation: relu` with `tie_embeddings: true`.
    """

    huggingface: ClassVar[tuple[str, ...]] = ("t5",)
    roles: ClassVar[tuple[str, ...]] = ("pad",)
    decoder_start_role: ClassVar[str] = "pad"

    name: str = "t5"
    """Which model family it is."""
    init_std: float = Field(default=1.0, gt=0)
    """Multiplies the standard deviations of the initial weights, which follow from the widths (Mesh TensorFlow's)."""
    attention_head_size: int | None = Field(default=None, gt=0)
    """Width of one attention head; null: hidden_size / num_attention_heads."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "RMSNorm"
    """Kind of the norms."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    """Added to the variance inside the norms."""
    activation: Literal["relu", "geglu_tanh", "swiglu"] = "geglu_tanh"
    """Activation of the MLP: relu (first version), or gated by gelu's approximation (1.1) or by silu (UL2)."""
    bias: bool = False
    """Whether the linear layers have biases."""
    tie_embeddings: bool = False
    """Whether the output layer is the embedding, its input scaled by hidden_size^-1/2 (first version)."""
    relative_buckets: int = Field(default=32, ge=4)
    """Buckets of relative positions; the encoder has half of them for each direction."""
    relative_max_distance: int = Field(default=128, gt=0)
    """Tokens from which on all distances are in one bucket."""

    @model_validator(mode="after")
    def _heads_divide(self) -> T5Config:
        if not self.has_own_head_size and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads};"
                " expected one that is, or attention_head_size"
            )
        return self

    @model_validator(mode="after")
    def _buckets_fit(self) -> T5Config:
        if self.relative_buckets % 4:
            raise ValueError(f"relative_buckets {self.relative_buckets} is not a multiple of 4")
        if self.relative_max_distance <= self.relative_buckets // 2:
            raise ValueError(
                f"relative_max_distance {self.relative_max_distance} is not above relative_buckets / 2,"
                f" {self.relative_buckets // 2}, the distances that have buckets of their own"
            )
        return self

    @property
    def head_size(self) -> int:
        """See the base class."""
        return self.attention_head_size or super().head_size

    @property
    def has_own_head_size(self) -> bool:
        """Whether the head size was given, so that heads need not divide the width."""
        return self.attention_head_size is not None

    @property
    def ties_output(self) -> bool:
        """See the base class."""
        return self.tie_embeddings

    @property
    def output_scale(self) -> float:
        """See the base class."""
        return self.hidden_size**-0.5 if self.tie_embeddings else 1.0

    @property
    def softmax_scale(self) -> float | None:
        """No scaling: it is in the initial values of the queries."""
        return 1.0

    @property
    def drops_output(self) -> bool:
        """See the base class."""
        return True

    @property
    def bias_buckets(self) -> int:
        """See the base class."""
        return self.relative_buckets

    @property
    def bias_max_distance(self) -> int:
        """See the base class."""
        return self.relative_max_distance

    @property
    def stds(self) -> InitialStds:
        """Mesh TensorFlow's: by the width of what a matrix reads; queries also by that of a head."""
        by_width = self.init_std * self.hidden_size**-0.5
        return InitialStds(
            embedding=self.init_std,
            query=by_width * self.head_size**-0.5,
            key_value=by_width,
            attention_output=self.init_std * self.inner_size**-0.5,
            ffn_in=by_width,
            ffn_out=self.init_std * self.ffn_size**-0.5,
            relative_bias=by_width,
            output=by_width,
        )

    def notes(self) -> list[str]:
        """See the base class."""
        rates = (self.hidden_dropout, self.attention_dropout, self.activation_dropout)
        if len(set(rates)) == 1:
            return []
        return [
            f"model.hidden_dropout {rates[0]:g}, attention_dropout {rates[1]:g} and activation_dropout {rates[2]:g}"
            " differ; T5 and transformers' class have one rate, and an export says the first: training goes on"
            " differently there, and the logits are the same"
        ]

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        return super().resolved() | {"attention_head_size": self.head_size}
