"""Norms that only some decoders have: RMSNorm that multiplies by 1 + its weight, and norms of queries and keys.

Shape letters: S sequence, B micro-batch, N heads of this rank, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
)
from megatron.core.transformer import TransformerConfig
from torch.nn import functional

from pretrain.models.layers import Norm


class RMSNormPlusOne(torch.nn.Module):
    """RMSNorm that multiplies by 1 + its weight, in fp32 (Gemma).

    Args:
        size: of the last axis.
        eps: added to the mean of the squares.
        dtype: of the weight.
    """

    def __init__(self, size: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size, dtype=dtype))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normed `x`, in its own precision."""
        weight = 1.0 + self.weight.float()
        return functional.rms_norm(x.float(), weight.shape, weight, self.eps).type_as(x)


class NormPlusOne(Norm):
    """`Norm` of models whose norms multiply by 1 + their weight."""

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any
    ) -> torch.nn.Module:
        """See the base class."""
        norm = RMSNormPlusOne(hidden_size, eps, config.params_dtype)
        norm.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


class HeadNorm:
    """Builds the RMSNorm of each query's or key's head: one weight for all heads.

    Sequence parallelism leaves its gradient as it is: the attention sees the whole sequence, and a part of the heads.
    """

    plus_one = False

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float, **unused: Any
    ) -> torch.nn.Module:
        """The norm of the last axis of [S, B, N, D]."""
        if cls.plus_one:
            return RMSNormPlusOne(hidden_size, eps, config.params_dtype)
        return torch.nn.RMSNorm(hidden_size, eps=eps, dtype=config.params_dtype)


class HeadNormPlusOne(HeadNorm):
    """`HeadNorm` that multiplies by 1 + its weight."""

    plus_one = True


class ProjectionNorm(torch.nn.Module):
    """RMSNorm of queries or keys over all heads together, those of other tensor ranks too (OLMo 2).

    Args:
        config: megatron-core's.
        heads: over all tensor ranks.
        plus_one: whether it multiplies by 1 + its weight.
        hidden_size: of one head.
        eps: added to the mean of the squares.
    """

    def __init__(
        self, config: TransformerConfig, heads: int, plus_one: bool, hidden_size: int, eps: float, **unused: Any
    ) -> None:
        super().__init__()
        self.width = heads * hidden_size
        self.ranks = config.tensor_model_parallel_size
        self.weight = torch.nn.Parameter(torch.empty(self.width // self.ranks, dtype=config.params_dtype))
        self.offset = 1.0 if plus_one else 0.0
        self.eps = eps

    def forward(self, x_SBND: torch.Tensor) -> torch.Tensor:
        """The normed queries or keys of this rank's heads."""
        heads_SBW = x_SBND.flatten(2).float()
        squares_SB1 = heads_SBW.square().sum(-1, keepdim=True)
        if self.ranks > 1:
            squares_SB1 = sum_over_tensor_ranks(squares_SB1)
        normed_SBW = heads_SBW * torch.rsqrt(squares_SB1 / self.width + self.eps)
        return (normed_SBW * (self.weight.float() + self.offset)).view_as(x_SBND).type_as(x_SBND)


def sum_over_tensor_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over the tensor ranks, each of which goes on with it in its own way.

    Backwards their gradients are summed, too: megatron's sum alone hands each rank its own.
    """
    group = parallel_state.get_tensor_model_parallel_group()
    total: torch.Tensor = copy_to_tensor_model_parallel_region(
        reduce_from_tensor_model_parallel_region(x, group=group), group=group
    )
    return total
