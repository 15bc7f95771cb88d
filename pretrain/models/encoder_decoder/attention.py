"""Attention with a bias on its scores, and on another text.

Shape letters: T queries, S keys, B micro-batch, N heads of this rank, D head size.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from megatron.core import tensor_parallel
from megatron.core.transformer.attention import SelfAttention

from pretrain.models import dropout_seeds
from pretrain.models.layers import CoreAttention


class BiasedCoreAttention(CoreAttention):
    """`CoreAttention` that also takes a bias on its scores, and keys of another text."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.is_cross = arguments["attention_type"] == "cross"

    def forward(
        self,
        q_SBND: torch.Tensor,
        k_SBGD: torch.Tensor,
        v_SBGD: torch.Tensor,
        seen: torch.Tensor | None,
        attention_bias: torch.Tensor | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """Attend.

        Args:
            q_SBND: queries, [T, B, N, D].
            k_SBGD: keys, [S, B, N, D].
            v_SBGD: values.
            seen: see the base class; not read where there is a bias. On another text: bool [B, S], which of
                its tokens are seen; None: all.
            attention_bias: [1 or B, N, T, S], added to the scores; minus infinity at what is not seen.
            **unused: see the base class.

        Returns:
            The attended values, [T, B, N * D].
        """
        if attention_bias is None and not self.is_cross:
            return super().forward(q_SBND, k_SBGD, v_SBGD, seen)
        mask = attention_bias
        if mask is None and seen is not None:
            mask = seen[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        q_BNTD, k_BNSD, v_BNSD = (t.permute(1, 2, 0, 3) for t in (q_SBND, k_SBGD, v_SBGD))
        with self._dropout_scope(dropout):
            out_BNTD = torch.nn.functional.scaled_dot_product_attention(
                q_BNTD, k_BNSD, v_BNSD, attn_mask=mask, dropout_p=dropout, scale=self.softmax_scale
            )
        return out_BNTD.permute(2, 0, 1, 3).flatten(2)

    def _dropout_scope(self, dropout: float) -> contextlib.AbstractContextManager[None]:
        if not self.is_cross:
            return super()._dropout_scope(dropout)
        # Not what the attention before it in the layer drops.
        return dropout_seeds.scope("cross attention", self.tensor_rank) if dropout else contextlib.nullcontext()


class BiasedSelfAttention(SelfAttention):
    """Megatron-core's, whose bias gets its gradient also where the core is computed again for the backward pass."""

    def _checkpointed_attention_forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        rotary_pos_emb: Any = None,
        attn_mask_type: Any = None,
        attention_bias: torch.Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> torch.Tensor:
        """The core attention, its inputs kept and nothing else.

        megatron/core/transformer/attention.py:381 (_checkpointed_attention_forward): has the bias from the function's
        surroundings, so that the backward pass of each layer runs through all that made it.
        """

        def attend(*inputs: torch.Tensor) -> torch.Tensor:
            *qkv_and_mask, bias = inputs
            out: torch.Tensor = self.core_attention(*qkv_and_mask, attention_bias=bias)
            return out

        inputs = (query, key, value, attention_mask, attention_bias)
        output: torch.Tensor = tensor_parallel.checkpoint(attend, False, *inputs)
        return output
