"""T5 and BART on megatron-core's parallel layers.

megatron-core's own `T5Model` has no relative positions and no scaling of the output, makes learned positions of its
own, and cannot be given an attention with a bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.encoder_decoder.stage import EncoderDecoder
from pretrain.models.family import Output, StagePlace
from pretrain.models.megatron_config import megatron_config


class EncoderDecoderFamily:
    """Builds and runs encoder-decoders; see `ModelFamily`."""

    def build(
        self, model: EncoderDecoderConfig, parallel: ParallelConfig, dtype: torch.dtype, place: StagePlace
    ) -> tuple[torch.nn.Module, Any]:
        """See `ModelFamily.build`."""
        assert place.num_stages == 1, f"{model.name} is not cut into stages"
        config = megatron_config(model, parallel, dtype, softmax_scale=model.softmax_scale)
        return EncoderDecoder(model, config), config

    def forward(self, stage: Callable[..., Any], module: Any, batch: MicroBatch) -> Output | torch.Tensor:
        """See `ModelFamily.forward`; the extras are those of `EncoderDecoder.forward`, the output is [T, B, V]."""
        return Output(stage(batch), module.pg_collection.tp)
