"""Dropout of the residual stream, the same in every layout: its mask is a function of the position in the sequence.

Shape letters: S sequence, P this tensor rank's part of it (all of it without sequence parallelism), B micro-batch,
H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.transformer import TransformerConfig


class HiddenDropout(torch.nn.Module):
    """Drops elements of the residual stream with the probability of `config.hidden_dropout`.

    Under sequence parallelism each tensor rank draws the mask of the whole sequence and keeps its part: the draws cost
    as much as without it, and the mask is the same.

    Args:
        config: megatron-core's.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.probability = config.hidden_dropout
        self.parts = config.tensor_model_parallel_size if config.sequence_parallel else 1

    def forward(self, stream_PBH: torch.Tensor) -> torch.Tensor:
        """The stream with elements dropped and the others scaled up, while training."""
        if not self.training or self.probability == 0.0:
            return stream_PBH
        return stream_PBH * self.mask(stream_PBH) * (1.0 / (1.0 - self.probability))

    def mask(self, stream_PBH: torch.Tensor) -> torch.Tensor:
        """What is kept, bool [P, B, H]; the next draw from this rank's generator, whose seed all tensor ranks share."""
        part, *rest = stream_PBH.shape
        mask_SBH = torch.empty((part * self.parts, *rest), dtype=torch.bool, device=stream_PBH.device)
        mask_SBH.bernoulli_(1.0 - self.probability)
        if self.parts == 1:
            return mask_SBH
        # A view would keep the whole sequence's mask until the backward pass.
        return mask_SBH[parallel_state.get_tensor_model_parallel_rank() * part :][:part].clone()


BiasDropoutAdd = Callable[[tuple[torch.Tensor, torch.Tensor | None], torch.Tensor, float], torch.Tensor]


def bias_dropout_add_of(config: TransformerConfig) -> Callable[[bool, bool], BiasDropoutAdd]:
    """What stands in a layer's specification for megatron-core's `get_bias_dropout_add`.

    Where nothing is dropped it is megatron's, which may be fused.
    """
    dropout = HiddenDropout(config)

    def get(training: bool, fused: bool) -> BiasDropoutAdd:
        if not training or config.hidden_dropout == 0.0:
            plain: BiasDropoutAdd = get_bias_dropout_add(training, fused)
            return plain

        def add(
            x_with_bias: tuple[torch.Tensor, torch.Tensor | None], residual_PBH: torch.Tensor, probability: Any
        ) -> torch.Tensor:
            x_PBH, bias_H = x_with_bias
            return residual_PBH + dropout(x_PBH if bias_H is None else x_PBH + bias_H)

        return add

    return get
