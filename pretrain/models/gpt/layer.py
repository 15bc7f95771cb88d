"""A decoder's layer: megatron-core's, with what differs from layer to layer and from one published decoder to another.

Shape letters: S sequence (this rank's part under sequence parallelism), B micro-batch, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_layer import TransformerLayer

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.gpt.norms import HeadNorm, HeadNormPlusOne, NormPlusOne, ProjectionNorm
from pretrain.models.layers import CoreAttention, Norm, portable_layer_spec


class DecoderLayer(TransformerLayer):
    """A layer of a decoder.

    Args:
        model: where norms stand, what the attention sees.
        number: of the layer, from 0, over the whole model.
        **arguments: megatron-core's.
    """

    def __init__(self, *, model: GPTConfig, number: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        core_attention: CoreAttention = self.self_attention.core_attention
        core_attention.window = model.window(number)
        core_attention.softcap = model.attention_softcap
        core_attention.softmax_scale = model.softmax_scale(number)
        self.rotation = model.rotation(number)
        self.residual = model.residual
        self.norms_outputs = model.norm_placement != "pre"
        if self.norms_outputs:
            for name in ("post_self_attn_layernorm", "post_mlp_layernorm"):
                setattr(self, name, norm_of(model)(self.config, model.hidden_size, model.norm_epsilon))

    def forward(self, hidden_states: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, None]:
        """Run the layer.

        Args:
            hidden_states: residual stream [S, B, H].
            **inputs: `attention_mask`, the document numbers; `rotary_pos_emb`, the angles of each kind of layer,
                [kinds, tokens, 1, 1, elements]; None: no rotation.

        Returns:
            The residual stream after the layer, and nothing (megatron's place for a decoder's context).
        """
        angles = inputs.pop("rotary_pos_emb", None)
        if angles is not None:
            angles = angles[self.rotation]
        if self.residual == "sequential" and not self.norms_outputs:
            output, _ = super().forward(hidden_states, rotary_pos_emb=angles, **inputs)
            return output, None
        normed = self.input_layernorm(hidden_states)
        attended = self.self_attention(normed, attention_mask=inputs["attention_mask"], rotary_pos_emb=angles)
        if self.residual == "sequential":
            return self._norm_outputs(attended, hidden_states), None
        inner = normed if self.residual == "parallel_one_norm" else self.pre_mlp_layernorm(hidden_states)
        return self._add_mlp(self.mlp(inner), self._add_attention(attended, hidden_states)), None

    def _norm_outputs(self, attended: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        middle = self._add_attention((self.post_self_attn_layernorm(_whole(attended)), None), hidden_states)
        given = self.mlp(self.pre_mlp_layernorm(middle))
        return self._add_mlp((self.post_mlp_layernorm(_whole(given)), None), middle)

    def _add_attention(self, given: Any, residual: torch.Tensor) -> torch.Tensor:
        add = self.self_attn_bda(self.training, self.config.bias_dropout_fusion)
        total: torch.Tensor = add(given, residual, self.hidden_dropout)
        return total

    def _add_mlp(self, given: Any, residual: torch.Tensor) -> torch.Tensor:
        add = self.mlp_bda(self.training, self.config.bias_dropout_fusion)
        total: torch.Tensor = add(given, residual, self.hidden_dropout)
        return total


class _WithBias:
    """First base class of a megatron layer that has a bias, whatever the others of its model have."""

    has_bias = True

    def __init__(self, *arguments: Any, bias: bool, **options: Any) -> None:
        super().__init__(*arguments, bias=self.has_bias, **options)  # type: ignore[call-arg]


class ColumnWithBias(_WithBias, ColumnParallelLinear):
    """A matrix cut by rows, and its bias."""


class RowWithBias(_WithBias, RowParallelLinear):
    """A matrix cut by columns, and its bias."""


class ColumnWithoutBias(ColumnWithBias):
    """A matrix cut by rows."""

    has_bias = False


class RowWithoutBias(RowWithBias):
    """A matrix cut by columns."""

    has_bias = False


def norm_of(model: GPTConfig) -> type[Norm]:
    """What builds the norms of the residual stream."""
    return NormPlusOne if model.norm_plus_one else Norm


def layer_specs(model: GPTConfig, config: TransformerConfig, first: int, count: int) -> list[ModuleSpec]:
    """Megatron-core's specs of the layers `first` (from 0) to `first + count - 1`."""
    specs = []
    for number in range(first, first + count):
        spec = portable_layer_spec(config, norm=norm_of(model))
        spec.module = DecoderLayer
        spec.params = {"model": model, "number": number}
        if model.norm_placement == "after":
            spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = IdentityOp
        if model.residual == "parallel_one_norm":
            spec.submodules.pre_mlp_layernorm = IdentityOp
        _choose_attention(spec.submodules.self_attention.submodules, model)
        specs.append(spec)
    return specs


def _choose_attention(parts: Any, model: GPTConfig) -> None:
    if model.has_qkv_bias != model.bias:
        parts.linear_qkv = ColumnWithBias if model.has_qkv_bias else ColumnWithoutBias
    if model.has_projection_bias != model.bias:
        parts.linear_proj = RowWithBias if model.has_projection_bias else RowWithoutBias
    if model.qk_norm == "head":
        parts.q_layernorm = parts.k_layernorm = HeadNormPlusOne if model.norm_plus_one else HeadNorm
    elif model.qk_norm == "projection":
        for name, heads in (("q_layernorm", model.num_attention_heads), ("k_layernorm", model.query_groups)):
            options = {"heads": heads, "plus_one": model.norm_plus_one}
            setattr(parts, name, ModuleSpec(module=ProjectionNorm, params=options))


def _whole(given: tuple[torch.Tensor, torch.Tensor | None]) -> torch.Tensor:
    """What a block gives, with the bias that it left to be added."""
    output, bias = given
    return output if bias is None else output + bias
