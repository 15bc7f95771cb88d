"""Layers of the encoder-decoders: megatron-core's, with a bias on attention scores, and one with norms after the sums.

Shape letters: S sequence (this rank's part under sequence parallelism), B micro-batch, H hidden size, F inner width of
the MLP.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.attention import CrossAttention, CrossAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_layer import TransformerLayer

from pretrain.models.encoder_decoder.attention import BiasedCoreAttention, BiasedSelfAttention
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.hidden_dropout import bias_dropout_add_of
from pretrain.models.layers import Norm, portable_layer_spec


class EncoderDecoderLayer(TransformerLayer):
    """A layer with norms before its blocks."""

    def forward(
        self, hidden_states: torch.Tensor, *, rotary_pos_emb: torch.Tensor | None = None, **inputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the layer.

        Args:
            hidden_states: residual stream [S, B, H].
            rotary_pos_emb: the bias on the scores of the layer's own attention, in the place of megatron's rotary
                angles: that of its bias is not among the inputs that a layer which is computed again is given.
            **inputs: `attention_mask`, the segments; in a decoder `context`, what the encoder gives, and
                `context_mask`, which of its tokens are seen.

        Returns:
            The residual stream after the layer, and the context.
        """
        inputs["attention_bias"] = rotary_pos_emb
        return self.run(hidden_states, **inputs)

    def run(self, hidden_states: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The computation, with the bias under its own name."""
        output, context = super().forward(hidden_states, **inputs)
        return output, context


class PostNormEncoderDecoderLayer(EncoderDecoderLayer):
    """A layer with norms after its residual sums (Vaswani et al. 2017; BART).

    `input_layernorm` is the norm after the layer's own attention, `pre_cross_attn_layernorm` that after the one on the
    encoder, `pre_mlp_layernorm` that after the MLP.
    """

    def run(
        self,
        hidden_states: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        attention_bias: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See the base class."""

        def add(block_output: Any, residual: torch.Tensor, get: Any) -> torch.Tensor:
            summed: torch.Tensor = get(self.training, self.config.bias_dropout_fusion)(
                block_output, residual, self.hidden_dropout
            )
            return summed

        attended = self.self_attention(hidden_states, attention_mask=attention_mask, attention_bias=attention_bias)
        stream = self.input_layernorm(add(attended, hidden_states, self.self_attn_bda))
        if context is not None:
            attended = self.cross_attention(stream, attention_mask=context_mask, key_value_states=context)
            stream = self.pre_cross_attn_layernorm(add(attended, stream, self.cross_attn_bda))
        return self.pre_mlp_layernorm(add(self.mlp(stream), stream, self.mlp_bda)), context


class DroppedInputLinear(RowParallelLinear):
    """The MLP's second matrix, after a dropout of what it reads; the same in every layout.

    Each tensor rank draws the mask of the whole width and keeps its part.

    Args:
        probability: of dropping an element.
        **arguments: megatron-core's.
    """

    def __init__(self, *args: Any, probability: float, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.probability = probability
        self.tensor_rank, self.tensor_size = self.tp_group.rank(), self.tp_group.size()

    def forward(self, input_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `RowParallelLinear`; `input_` is [S, B, F / tensor size], with the whole sequence."""
        if self.training and self.probability:
            kept = 1.0 - self.probability
            *rest, width = input_.shape
            mask_SBF = torch.empty((*rest, width * self.tensor_size), dtype=torch.bool, device=input_.device)
            mask_SBF.bernoulli_(kept)
            own = mask_SBF if self.tensor_size == 1 else mask_SBF.chunk(self.tensor_size, -1)[self.tensor_rank].clone()
            input_ = input_ * own * (1.0 / kept)
        output, bias = super().forward(input_)
        return output, bias


def layer_spec(model: EncoderDecoderConfig, config: TransformerConfig, *, is_decoder: bool) -> ModuleSpec:
    """Megatron-core's spec of the layers of one stack."""
    spec = portable_layer_spec(config, is_causal=is_decoder)
    spec.module = PostNormEncoderDecoderLayer if model.is_post_norm else EncoderDecoderLayer
    parts = spec.submodules
    parts.self_attention.module = BiasedSelfAttention
    parts.self_attention.submodules.core_attention = BiasedCoreAttention
    if model.activation_dropout:
        dropped = {"probability": model.activation_dropout}
        parts.mlp.submodules.linear_fc2 = ModuleSpec(module=DroppedInputLinear, params=dropped)
    if is_decoder:
        parts.pre_cross_attn_layernorm = Norm
        parts.cross_attn_bda = bias_dropout_add_of(config)
        parts.cross_attention = ModuleSpec(
            module=CrossAttention,
            params={"attn_mask_type": AttnMaskType.padding},
            submodules=CrossAttentionSubmodules(
                linear_q=ColumnParallelLinear,
                linear_kv=ColumnParallelLinear,
                core_attention=BiasedCoreAttention,
                linear_proj=RowParallelLinear,
            ),
        )
    return spec
