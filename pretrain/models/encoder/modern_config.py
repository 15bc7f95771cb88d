"""The declaration of the modern encoder, after ModernBERT (Warner et al. 2024, arXiv:2412.13663)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pretrain.models.encoder.config import EncoderConfig


class ModernEncoderConfig(EncoderConfig):
    """Rotary positions, norms before the blocks, GeGLU, no biases but the decoder's; most layers see a window only."""

    huggingface: ClassVar[tuple[str, ...]] = ("modernbert",)

    name: str = "modern-encoder"
    """Which model family it is."""
    activation: Literal["geglu"] = "geglu"
    """Activation of the MLP: gated by gelu."""
    bias: bool = False
    """Whether the linear layers have biases; the decoder has one in any case."""
    global_every: int = Field(default=3, gt=0)
    """Of so many layers the first sees the whole document, the others `local_window`."""
    local_window: int = Field(default=128, gt=0)
    """Width of what a local layer sees: half of it to either side."""
    global_rotary_base: float = Field(default=160_000.0, gt=0)
    """Base of the rotary frequencies in global layers."""
    local_rotary_base: float = Field(default=10_000.0, gt=0)
    """Base of the rotary frequencies in local layers."""

    @model_validator(mode="after")
    def _head_size_is_even(self) -> ModernEncoderConfig:
        if self.head_size % 2:
            raise ValueError(f"rotary positions need an even head size; hidden_size / heads is {self.head_size}")
        return self

    @property
    def has_norm_bias(self) -> bool:
        """No norm has."""
        return False

    @property
    def rotary_bases(self) -> tuple[float, ...]:
        """See the base class."""
        return self.global_rotary_base, self.local_rotary_base

    @property
    def head_std(self) -> float:
        """As what writes into the residual stream (ModernBERT)."""
        return self.residual_std

    def notes(self) -> list[str]:
        """See the base class."""
        if not self.hidden_dropout:
            return []
        return [
            f"model.hidden_dropout {self.hidden_dropout:g} drops what the attention and the MLP add to the residual"
            " stream; transformers' ModernBert drops the attention's output by attention_dropout, and the MLP within,"
            " before its last layer: training goes on differently there, and the logits of an export are the same"
        ]

    def has_attention_norm(self, layer: int) -> bool:
        """Not the first layer: the embedding's norm stands right before it."""
        return layer > 0

    def window(self, layer: int) -> int | None:
        """See the base class."""
        return self.local_window // 2 if layer % self.global_every else None

    def attention_flops_per_token(self) -> float:
        """12 d T for each layer, T being what a token sees: the sample in global layers, the window in local ones."""
        windows = [self.window(layer) for layer in range(self.num_layers)]
        seen = sum(self.seq_length if w is None else min(self.seq_length, 2 * w + 1) for w in windows)
        return 12.0 * self.hidden_size * seen
