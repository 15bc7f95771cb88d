"""Layers of the encoders: megatron-core's, with what differs from layer to layer, and one with norms after the sums.

Shape letters: S sequence (this rank's part under sequence parallelism), B micro-batch, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_layer import TransformerLayer

from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.layers import CoreAttention, Norm, NormWithoutBias, portable_layer_spec


class EncoderLayer(TransformerLayer):
    """A layer with norms before its blocks, its own attention window and its own rotary frequencies.

    Args:
        window: tokens to either side that are seen; None: all.
        softmax_scale: what products of queries and keys are multiplied by; None: 1 / sqrt(head size).
        **arguments: megatron-core's.
    """

    def __init__(self, *, window: int | None = None, softmax_scale: float | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        core_attention: CoreAttention = self.self_attention.core_attention
        core_attention.window = window
        core_attention.softmax_scale = softmax_scale
        self.rotary_row = 0 if window is None else 1

    def forward(self, hidden_states: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, None]:
        """Run the layer.

        Args:
            hidden_states: residual stream [S, B, H].
            **inputs: `attention_mask`, the document numbers; `rotary_pos_emb`, the angles of global and of local
                layers, [2, tokens, 1, 1, head size]; None: no rotation.

        Returns:
            The residual stream after the layer, and nothing (megatron's place for a decoder's context).
        """
        angles = inputs.pop("rotary_pos_emb", None)
        if angles is not None:
            angles = angles[self.rotary_row]
        return self.run(hidden_states, rotary_pos_emb=angles, **inputs)

    def run(self, hidden_states: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, None]:
        """The computation, with this layer's own angles."""
        output, _ = super().forward(hidden_states, **inputs)
        return output, None


class PostNormLayer(EncoderLayer):
    """A layer with norms after its residual sums (Vaswani et al. 2017; BERT).

    `input_layernorm` is the norm after the attention, `pre_mlp_layernorm` that after the MLP. megatron-core's own
    setting for this, `apply_residual_connection_post_layernorm`, is read nowhere.
    """

    def run(
        self,
        hidden_states: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        rotary_pos_emb: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        """See the base class."""
        add_self = self.self_attn_bda(self.training, self.config.bias_dropout_fusion)
        add_mlp = self.mlp_bda(self.training, self.config.bias_dropout_fusion)
        attended = self.self_attention(hidden_states, attention_mask=attention_mask, rotary_pos_emb=rotary_pos_emb)
        middle = self.input_layernorm(add_self(attended, hidden_states, self.hidden_dropout))
        output = self.pre_mlp_layernorm(add_mlp(self.mlp(middle), middle, self.hidden_dropout))
        return output, None


def norm_of(model: EncoderConfig) -> type[Norm]:
    """What builds the norms of `model`."""
    return Norm if model.has_norm_bias else NormWithoutBias


def layer_specs(model: EncoderConfig, config: TransformerConfig, first: int, count: int) -> list[ModuleSpec]:
    """Megatron-core's specs of the layers `first` (from 0) to `first + count - 1`."""
    specs = []
    for number in range(first, first + count):
        spec = portable_layer_spec(config, is_causal=False, norm=norm_of(model))
        spec.module = PostNormLayer if model.is_post_norm else EncoderLayer
        spec.params = {"window": model.window(number), "softmax_scale": model.width_scaled_softmax(None)}
        if not model.has_attention_norm(number):
            spec.submodules.input_layernorm = IdentityOp
        specs.append(spec)
    return specs
