"""BERT, RoBERTa and the modern encoder on megatron-core's parallel layers.

megatron-core's own `BertModel` has neither an embedding norm nor norms after the sums, makes its own positions and
masks, and asks global state for its stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.dropout_seeds import seed_layers
from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.stage import EncoderStage
from pretrain.models.family import Output, StagePlace
from pretrain.models.megatron_config import megatron_config


class EncoderFamily:
    """Builds and runs encoders; see `ModelFamily`."""

    def build(
        self, model: EncoderConfig, parallel: ParallelConfig, dtype: torch.dtype, place: StagePlace
    ) -> tuple[torch.nn.Module, Any]:
        """See `ModelFamily.build`."""
        config = megatron_config(model, parallel, dtype)
        stage = EncoderStage(model, config, place)
        if model.hidden_dropout or model.attention_dropout:
            seed_layers(stage.encoder.layers)
        return stage, config

    def forward(self, stage: Callable[..., Any], module: Any, batch: MicroBatch) -> Output | torch.Tensor:
        """See `ModelFamily.forward`; reads `token_types_BS` of the extras, gives the head `pair` where there is one."""
        types_BS = batch.extras.get("token_types_BS")
        output = stage(batch.tokens_BS, batch.position_ids_BS, batch.segment_ids_BS, types_BS)
        if not module.post_process:
            stream: torch.Tensor = output
            return stream
        logits_SBV, heads = (output[0], {"pair": output[1]}) if module.has_pair_head else (output, {})
        return Output(logits_SBV, module.pg_collection.tp, heads)
