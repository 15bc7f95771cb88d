"""The GPT of one pipeline stage, on megatron-core's `GPTModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import ColumnParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import PREFIX_LENGTHS, MicroBatch
from pretrain.models.attention_mask import seen_by
from pretrain.models.dropout_seeds import seed_layers
from pretrain.models.family import Output, StagePlace
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.gpt.layer import layer_specs, norm_of
from pretrain.models.gpt.rotary import RotaryAngles
from pretrain.models.hidden_dropout import HiddenDropout
from pretrain.models.megatron_config import megatron_config


class _GPT(GPTModel):
    """Megatron's GPT, except that it hands out its logits: losses are the objective's."""

    logit_softcap: float | None = None
    """Logits x become cap tanh(x / cap); None: they stay."""

    def compute_language_model_loss(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The logits, [S, B, V]; without labels megatron would transpose and copy them."""
        if self.logit_softcap is None:
            return logits
        return torch.tanh(logits / self.logit_softcap) * self.logit_softcap

    def setup_embeddings_and_output_layer(self) -> None:
        """Nothing: the copies of a tied embedding get the same initial values, by name.

        megatron/core/models/common/language_module/language_module.py:244 (setup_embeddings_and_output_layer): moves
        the copies of two stages to the GPU and adds them up; here they have no memory yet.
        """


class _ScaledDropout(HiddenDropout):
    """Dropout of the embedding, after its tokens are multiplied by `scale`."""

    def __init__(self, config: TransformerConfig, scale: float) -> None:
        super().__init__(config)
        self.scale = scale

    def forward(self, stream_PBH: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        return super().forward(stream_PBH * self.scale)


class GPTFamily:
    """Builds and runs GPT; see `ModelFamily`."""

    def build(
        self, model: GPTConfig, parallel: ParallelConfig, dtype: torch.dtype, place: StagePlace
    ) -> tuple[torch.nn.Module, Any]:
        """See `ModelFamily.build`."""
        config = megatron_config(model, parallel, dtype)
        count = get_num_layers_to_build(config)
        layers = layer_specs(model, config, place.stage * count, count)
        is_rotary = model.position_embedding == "rope"
        gpt = _GPT(
            config,
            TransformerBlockSubmodules(layer_specs=layers, layer_norm=norm_of(model)),
            vocab_size=model.padded_vocab_size,
            max_sequence_length=model.seq_length,
            pre_process=place.is_first,
            post_process=place.is_last,
            share_embeddings_and_output_weights=model.tie_embeddings,
            position_embedding_type="rope" if is_rotary else "learned_absolute",
        )
        gpt.logit_softcap = model.logit_softcap
        if is_rotary:
            gpt.rotary_pos_emb = RotaryAngles(model)
        if place.is_first:
            scale = model.embedding_multiplier
            gpt.embedding.embedding_dropout = HiddenDropout(config) if scale == 1.0 else _ScaledDropout(config, scale)
        if place.is_last and model.output_bias:
            gpt.output_layer = _output_with_bias(model, config, gpt, owns_weight=not place.is_first)
        if place.is_last and model.output_multiplier != 1.0:
            scale_input(gpt.output_layer, model.output_multiplier)
        if model.hidden_dropout or model.attention_dropout:
            seed_layers(gpt.decoder.layers)
        return gpt, config

    def forward(self, stage: Callable[..., Any], module: Any, batch: MicroBatch) -> Output | torch.Tensor:
        """See `ModelFamily.forward`."""
        seen = seen_by(batch.segment_ids_BS, batch.extras.get(PREFIX_LENGTHS))
        output = stage(batch.tokens_BS, batch.position_ids_BS, seen, labels=batch.tokens_BS)
        return Output(output, module.pg_collection.tp) if module.post_process else output


def scale_input(layer: torch.nn.Module, scale: float) -> None:
    """Multiply what `layer` reads: its product is scaled, and its bias is not."""
    layer.register_forward_pre_hook(lambda owner, inputs: (inputs[0] * scale, *inputs[1:]))


def _output_with_bias(
    model: GPTConfig, config: TransformerConfig, gpt: GPTModel, *, owns_weight: bool
) -> ColumnParallelLinear:
    return ColumnParallelLinear(
        model.hidden_size,
        model.padded_vocab_size,
        config=config,
        init_method=config.init_method,
        bias=True,
        skip_weight_param_allocation=model.tie_embeddings and not owns_weight,
        tp_group=gpt.pg_collection.tp,
    )
