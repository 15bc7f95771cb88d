"""What the last stage does to the residual stream before the decoder, and the head for pairs of texts.

Shape letters: S sequence (this rank's part under sequence parallelism), B micro-batch, H hidden size.
"""

from __future__ import annotations

import torch
from megatron.core import tensor_parallel
from megatron.core.transformer import TransformerConfig
from torch.nn import functional

from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.layer import norm_of

_APPROXIMATION = {"gelu": "none", "gelu_tanh": "tanh"}


class MaskedTokenHead(torch.nn.Module):
    """Dense layer, activation, norm; the decoder comes after it. Each tensor rank holds all of it.

    Args:
        model: width, activation, norm.
        config: megatron-core's.
    """

    def __init__(self, model: EncoderConfig, config: TransformerConfig) -> None:
        super().__init__()
        width = model.hidden_size
        self.dense = torch.nn.Linear(width, width, bias=model.bias, dtype=config.params_dtype)
        for parameter in self.dense.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        self.layer_norm = norm_of(model)(config, width, model.norm_epsilon)
        self._approximation = _APPROXIMATION[model.head_activation]

    def forward(self, stream_SBH: torch.Tensor) -> torch.Tensor:
        """What the decoder reads, [S, B, H]."""
        activated_SBH = functional.gelu(self.dense(stream_SBH), approximate=self._approximation)
        normed_SBH: torch.Tensor = self.layer_norm(activated_SBH)
        return normed_SBH


class Pooler(torch.nn.Module):
    """A dense layer and tanh on the first token of each sample; the same on every tensor rank.

    Args:
        model: the width.
        config: megatron-core's.
        tensor_group: ranks that share the sequence under sequence parallelism.
    """

    def __init__(
        self, model: EncoderConfig, config: TransformerConfig, tensor_group: torch.distributed.ProcessGroup
    ) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(model.hidden_size, model.hidden_size, dtype=config.params_dtype)
        self._sequence_parallel = config.sequence_parallel
        self._tensor_group = tensor_group

    def forward(self, stream_SBH: torch.Tensor) -> torch.Tensor:
        """The pooled samples, [B, H]."""
        first_SBH = stream_SBH[:1]
        if self._sequence_parallel:
            # The first token is the first rank's. Every rank computes the same from it, so its gradient is whole on
            # each and must not be summed over them.
            first_SBH = tensor_parallel.gather_from_sequence_parallel_region(
                first_SBH.contiguous(), tensor_parallel_output_grad=False, group=self._tensor_group
            )
        return torch.tanh(self.dense(first_SBH[0]))
