"""The GPT of one pipeline stage, on megatron-core's `GPTModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import PREFIX_LENGTHS, MicroBatch
from pretrain.models.attention_mask import seen_by
from pretrain.models.dropout_seeds import seed_layers
from pretrain.models.family import Output, StagePlace
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.hidden_dropout import HiddenDropout
from pretrain.models.layers import Norm, portable_layer_spec
from pretrain.models.megatron_config import megatron_config


class _GPT(GPTModel):
    """Megatron's GPT, except that it hands out its logits: losses are the objective's."""

    def compute_language_model_loss(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The logits as they are, [S, B, V]; without labels megatron would transpose and copy them."""
        return logits

    def setup_embeddings_and_output_layer(self) -> None:
        """Nothing: the copies of a tied embedding get the same initial values, by name.

        megatron/core/models/common/language_module/language_module.py:244 (setup_embeddings_and_output_layer): moves
        the copies of two stages to the GPU and adds them up; here they have no memory yet.
        """


class GPTFamily:
    """Builds and runs GPT; see `ModelFamily`."""

    def build(
        self, model: GPTConfig, parallel: ParallelConfig, dtype: torch.dtype, place: StagePlace
    ) -> tuple[torch.nn.Module, Any]:
        """See `ModelFamily.build`."""
        config = megatron_config(model, parallel, dtype)
        layers = [portable_layer_spec(config)] * get_num_layers_to_build(config)
        gpt = _GPT(
            config,
            TransformerBlockSubmodules(layer_specs=layers, layer_norm=Norm),
            vocab_size=model.padded_vocab_size,
            max_sequence_length=model.seq_length,
            pre_process=place.is_first,
            post_process=place.is_last,
            share_embeddings_and_output_weights=model.tie_embeddings,
            position_embedding_type="rope" if model.position_embedding == "rope" else "learned_absolute",
            rotary_base=model.rotary_base,
        )
        if place.is_first:
            gpt.embedding.embedding_dropout = HiddenDropout(config)
        if model.hidden_dropout or model.attention_dropout:
            seed_layers(gpt.decoder.layers)
        return gpt, config

    def forward(self, stage: Callable[..., Any], module: Any, batch: MicroBatch) -> Output | torch.Tensor:
        """See `ModelFamily.forward`."""
        seen = seen_by(batch.segment_ids_BS, batch.extras.get(PREFIX_LENGTHS))
        output = stage(batch.tokens_BS, batch.position_ids_BS, seen, labels=batch.tokens_BS)
        return Output(output, module.pg_collection.tp) if module.post_process else output
