"""The portable parts of a transformer layer: they run on any device, without Transformer Engine or Apex.

Shape letters: S sequence, B micro-batch, N query heads of this rank, G key/value heads of this rank, D head size.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec

from pretrain.models import dropout_seeds
from pretrain.models.attention_mask import told_apart, visible
from pretrain.models.document_attention import attend_within_documents, takes_document_lengths, whole_samples
from pretrain.models.hidden_dropout import bias_dropout_add_of


class CoreAttention(MegatronModule):
    """softmax(Q K^T) V on torch's fused kernels, causal or in both directions.

    Takes the constructor arguments of megatron-core's `DotProductAttention`, which it stands in for. What a query
    sees beyond that is said by what travels where megatron has its mask (see `seen_by`), and by `window`.
    """

    window: int | None = None
    """Tokens to either side that a query sees; None: all."""
    softcap: float | None = None
    """Scores x become cap tanh(x / cap), which no fused kernel computes; None: they stay."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: Any = None,
        **unused: Any,
    ) -> None:
        super().__init__(config)
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout
        self.softmax_scale = softmax_scale
        self.tensor_rank = pg_collection.tp.rank()
        self.is_causal = attn_mask_type == AttnMaskType.causal

    def forward(
        self,
        q_SBND: torch.Tensor,
        k_SBGD: torch.Tensor,
        v_SBGD: torch.Tensor,
        seen: torch.Tensor | None,
        **unused: Any,
    ) -> torch.Tensor:
        """Attend.

        Args:
            q_SBND: queries.
            k_SBGD: keys.
            v_SBGD: values.
            seen: what `seen_by` made of the document numbers or of the lengths of prefixes.
            **unused: what megatron-core's attention can do and this one does not need.

        Returns:
            The attended values, [S, B, N * D].
        """
        dropout = self.dropout if self.training else 0.0
        segment_ids_BS, prefix_lengths_B = told_apart(seen)
        documents_BS = segment_ids_BS
        if seen is None and self.window is not None and self.window < q_SBND.shape[0]:
            # The kernel leaves out what a window hides; a mask would have it computed.
            documents_BS = whole_samples(q_SBND.shape[1], q_SBND.shape[0], q_SBND.device)
        fits = self.softcap is None and takes_document_lengths(q_SBND, k_SBGD, documents_BS, dropout)
        if documents_BS is not None and fits:
            inputs = (q_SBND, k_SBGD, v_SBGD, documents_BS)
            how: dict[str, Any] = {"is_causal": self.is_causal, "window": self.window, "scale": self.softmax_scale}
            return attend_within_documents(*inputs, **how).flatten(2)
        q_BNSD, k_BGSD, v_BGSD = (t.permute(1, 2, 0, 3) for t in (q_SBND, k_SBGD, v_SBGD))
        mask_B1SS = visible(
            segment_ids_BS, q_BNSD, is_causal=self.is_causal, window=self.window, prefix_lengths_B=prefix_lengths_B
        )
        if self.softcap is not None:
            out_BNSD = self._softcapped(q_BNSD, k_BGSD, v_BGSD, mask_B1SS, dropout)
            return out_BNSD.permute(2, 0, 1, 3).flatten(2)
        with self._dropout_scope(dropout):
            out_BNSD = torch.nn.functional.scaled_dot_product_attention(
                q_BNSD,
                k_BGSD,
                v_BGSD,
                attn_mask=mask_B1SS,
                is_causal=self.is_causal and mask_B1SS is None,
                dropout_p=dropout,
                scale=self.softmax_scale,
                enable_gqa=q_BNSD.shape[1] != k_BGSD.shape[1],
            )
        out_SBND = out_BNSD.permute(2, 0, 1, 3)
        return out_SBND.reshape(*out_SBND.shape[:2], -1)

    def _softcapped(
        self,
        q_BNSD: torch.Tensor,
        k_BGSD: torch.Tensor,
        v_BGSD: torch.Tensor,
        mask_B1SS: torch.Tensor | None,
        dropout: float,
    ) -> torch.Tensor:
        """The attention step by step, [B, N, S, D]: its scores take memory for each pair of tokens."""
        assert self.softcap is not None
        scale = q_BNSD.shape[-1] ** -0.5 if self.softmax_scale is None else self.softmax_scale
        k_BNSD, v_BNSD = (t.repeat_interleave(q_BNSD.shape[1] // t.shape[1], 1) for t in (k_BGSD, v_BGSD))
        scores_BNSS = torch.tanh(q_BNSD @ k_BNSD.transpose(2, 3) * (scale / self.softcap)) * self.softcap
        if mask_B1SS is None and self.is_causal:
            mask_B1SS = torch.ones_like(scores_BNSS[:1, :1], dtype=torch.bool).tril()
        if mask_B1SS is not None:
            scores_BNSS = scores_BNSS.masked_fill(~mask_B1SS, float("-inf"))
        weights_BNSS = torch.softmax(scores_BNSS, -1, dtype=torch.float32).to(q_BNSD.dtype)
        with self._dropout_scope(dropout):
            weights_BNSS = torch.nn.functional.dropout(weights_BNSS, dropout)
        return weights_BNSS @ v_BNSD

    def _dropout_scope(self, dropout: float) -> contextlib.AbstractContextManager[None]:
        # Tensor ranks hold different heads and must drop differently. A stream of its own, even where there is one
        # rank, leaves what is drawn for the residual stream the same at every tensor size.
        return dropout_seeds.scope("attention", self.tensor_rank) if dropout else contextlib.nullcontext()


class Norm:
    """Builds torch's LayerNorm or RMSNorm with megatron's constructor arguments."""

    has_bias = True

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any
    ) -> torch.nn.Module:
        """The norm; its weights are marked where sequence parallelism leaves their gradients partial."""
        norm: torch.nn.Module
        if config.normalization == "RMSNorm":
            norm = torch.nn.RMSNorm(hidden_size, eps=eps, dtype=config.params_dtype)
        else:
            norm = torch.nn.LayerNorm(hidden_size, eps=eps, dtype=config.params_dtype, bias=cls.has_bias)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


class NormWithoutBias(Norm):
    """`Norm` whose LayerNorm has no bias."""

    has_bias = False


def portable_layer_spec(config: TransformerConfig, *, is_causal: bool = True, norm: type[Norm] = Norm) -> ModuleSpec:
    """Megatron-core's local layer spec with the parts above in it."""
    spec = copy.deepcopy(get_gpt_layer_local_spec(normalization=config.normalization))
    spec.submodules.self_attn_bda = spec.submodules.mlp_bda = bias_dropout_add_of(config)
    spec.submodules.input_layernorm = norm
    spec.submodules.pre_mlp_layernorm = norm
    attention_mask_type = AttnMaskType.causal if is_causal else AttnMaskType.padding
    spec.submodules.self_attention.params["attn_mask_type"] = attention_mask_type
    spec.submodules.self_attention.submodules.core_attention = CoreAttention
    return spec
