"""What all transformers declare: heads, widths, norms, dropout, and the table of one layer's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pretrain.config.model import ModelConfig, indivisible
from pretrain.models.parameter_table import Constant, Holder, Normal, ParameterSpec

EMBEDDING = "embedding.word_embeddings.weight"
OUTPUT = "output_layer.weight"
"""Names of the two tables by token id; a tied output layer has the embedding's."""


class TransformerModelConfig(ModelConfig):
    """A transformer. A subclass declares one family."""

    token_embedding: ClassVar[str | None] = "embedding.word_embeddings"
    drawing_keys: ClassVar[frozenset[str]] = ModelConfig.drawing_keys | {"init_cutoff"}
    dropout_keys: ClassVar[frozenset[str]] = frozenset({"hidden_dropout", "attention_dropout"})

    num_attention_heads: int = Field(gt=0, examples=[12])
    """Query heads of each attention."""
    ffn_hidden_size: int | None = Field(default=None, gt=0)
    """Inner width of the MLP; null: 4 x hidden_size, or, where it is gated, 8/3 x hidden_size rounded up to 64."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "LayerNorm"
    """Kind of the norms."""
    norm_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the variance inside the norms."""
    activation: Literal["gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh", "relu"] = "gelu"
    """Activation of the MLP; gelu_tanh is GPT-2's approximation, swiglu and geglu are gated by silu and gelu."""
    bias: bool = True
    """Whether the linear layers have biases."""
    init_cutoff: float | None = Field(default=None, gt=0)
    """Initial weights beyond so many standard deviations are drawn again; null: none are."""
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an element of each residual branch and of the embedding."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an attention weight."""

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerModelConfig:
        if self.hidden_size % self.num_attention_heads and not self.has_own_head_size:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self

    @property
    def is_gated(self) -> bool:
        """Whether the MLP's first matrix is `[gate; up]`."""
        return self.activation in ("swiglu", "geglu", "geglu_tanh")

    @property
    def query_groups(self) -> int:
        """Key/value heads of each attention."""
        return self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def has_own_head_size(self) -> bool:
        """Whether the head size was given, so that heads need not divide the width."""
        return False

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the layer of queries, keys and values has a bias."""
        return self.bias

    @property
    def has_projection_bias(self) -> bool:
        """Whether the layer after the attention has a bias."""
        return self.bias

    @property
    def is_post_norm(self) -> bool:
        """Whether norms stand after the residual sums; then there are no norms at the end of a stack."""
        return False

    @property
    def num_positions(self) -> int:
        """Rows of each learned table of positions; 0: there is none."""
        return 0

    @property
    def first_position(self) -> int:
        """Row of a sample's first token in the tables of positions."""
        return 0

    @property
    def norm_init(self) -> Constant:
        """Initial values of the norms' weights."""
        return Constant(1.0)

    @property
    def ffn_size(self) -> int:
        """Inner width of the MLP."""
        if self.ffn_hidden_size is not None:
            return self.ffn_hidden_size
        return -(-8 * self.hidden_size // 3 // 64) * 64 if self.is_gated else 4 * self.hidden_size

    @property
    def residual_std(self) -> float:
        """Standard deviation of the initial weights of the matrices that write into the residual stream."""
        return self.init_std / math.sqrt(2 * self.num_layers)

    def normal(self, std: float) -> Normal:
        """Initial values of a matrix with this standard deviation, cut off at `init_cutoff`."""
        return Normal(std, self.init_cutoff)

    def layout_problems(self, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """See the base class."""
        divisible = [
            ("model.num_attention_heads", self.num_attention_heads, "tensor"),
            ("model.num_query_groups", self.query_groups, "tensor"),
            ("model.ffn_hidden_size", self.ffn_size, "tensor"),
        ]
        return indivisible(divisible, sizes) + super().layout_problems(sizes, sequence_parallel=sequence_parallel)

    def attention_flops_per_token(self) -> float:
        """12 L d T: every token is counted as seeing the whole sample, causal or not."""
        return 12 * self.num_layers * self.hidden_size * self.seq_length

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        return super().resolved() | {"ffn_hidden_size": self.ffn_size}

    def layer_parameters(
        self,
        number: int,
        block: str,
        *,
        attention_norm: bool = True,
        mlp_norm: bool = True,
        norm_bias: bool | None = None,
    ) -> Iterator[ParameterSpec]:
        """The parameters of one layer.

        Args:
            number: of the layer, over the whole model.
            block: name of the stack in the module, such as `decoder`.
            attention_norm: whether there is a norm before (post-norm: after) the attention.
            mlp_norm: whether there is one before (post-norm: after) the MLP.
            norm_bias: whether norms have biases; None: LayerNorm has, RMSNorm has not.
        """
        layer, hidden = f"{block}.layers.{number}.", self.hidden_size
        qkv = (self.num_attention_heads + 2 * self.query_groups) * self.head_size
        heads = self.num_attention_heads * self.head_size
        group = (self.num_attention_heads // self.query_groups * self.head_size, self.head_size, self.head_size)
        inner, outer = self.normal(self.init_std), self.normal(self.residual_std)
        if attention_norm:
            yield from self.norm_parameters(f"{layer}input_layernorm", number, bias=norm_bias)
        biases, attention = (self.has_qkv_bias, self.has_projection_bias), f"{layer}self_attention"
        yield from self._linear(
            f"{attention}.linear_qkv", (qkv, hidden), number, inner, axis=0, bias=biases[0], rows=group
        )
        yield from self._linear(f"{attention}.linear_proj", (hidden, heads), number, outer, axis=1, bias=biases[1])
        if mlp_norm:
            yield from self.norm_parameters(f"{layer}pre_mlp_layernorm", number, bias=norm_bias)
        yield from self.mlp_parameters(layer, number, inner, outer)

    def mlp_parameters(self, layer: str, holder: Holder, inner: Normal, outer: Normal) -> Iterator[ParameterSpec]:
        """The matrices of an MLP, with their biases.

        Args:
            layer: what their names begin with.
            holder: which stages have them.
            inner: initial values of the first matrix.
            outer: of the second.
        """
        hidden, ffn = self.hidden_size, self.ffn_size
        fc1, blocks = (2 * ffn, 2) if self.is_gated else (ffn, 1)
        gate_and_up = (ffn, ffn) if self.is_gated else ()
        yield from self._linear(
            f"{layer}mlp.linear_fc1", (fc1, hidden), holder, inner, axis=0, blocks=blocks, rows=gate_and_up
        )
        yield from self._linear(f"{layer}mlp.linear_fc2", (hidden, ffn), holder, outer, axis=1)

    def norm_parameters(self, name: str, holder: Holder, *, bias: bool | None = None) -> Iterator[ParameterSpec]:
        """Weight and, where there is one, bias of a norm."""
        bias = self.normalization == "LayerNorm" if bias is None else bias
        shape = (self.hidden_size,)
        yield ParameterSpec(f"{name}.weight", shape, holder, self.norm_init, decays=False, sequence_partial=True)
        if bias:
            yield ParameterSpec(f"{name}.bias", shape, holder, Constant(0.0), decays=False, sequence_partial=True)

    def _linear(
        self,
        name: str,
        shape: tuple[int, int],
        holder: Holder,
        init: Normal,
        *,
        axis: int,
        blocks: int = 1,
        bias: bool | None = None,
        rows: tuple[int, ...] = (),
    ) -> Iterator[ParameterSpec]:
        yield ParameterSpec(f"{name}.weight", shape, holder, init, tensor_axis=axis, blocks=blocks, row_pattern=rows)
        if self.bias if bias is None else bias:
            # The bias of a matrix that is cut by columns is added after the sum over ranks: whole, and to a part of
            # the sequence only where that is split.
            whole = axis == 1
            yield ParameterSpec(
                f"{name}.bias",
                shape[:1],
                holder,
                Constant(0.0),
                tensor_axis=None if whole else 0,
                blocks=1 if whole else blocks,
                decays=False,
                sequence_partial=whole,
            )
