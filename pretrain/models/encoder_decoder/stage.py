"""The whole encoder-decoder: it has one pipeline stage.

Shape letters: B micro-batch, S tokens that the encoder reads, T tokens that the decoder reads, H hidden size, V
vocabulary entries of this tensor rank.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import ColumnParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import TransformerBlock, TransformerBlockSubmodules

from pretrain.data.batch import MicroBatch
from pretrain.models.dropout_seeds import seed_layer, seed_layers
from pretrain.models.encoder_decoder.config import STACKS, EncoderDecoderConfig
from pretrain.models.encoder_decoder.embedding import EncoderDecoderEmbedding
from pretrain.models.encoder_decoder.layer import layer_spec
from pretrain.models.encoder_decoder.relative_bias import RelativePositionBias
from pretrain.models.hidden_dropout import HiddenDropout
from pretrain.models.layers import Norm

PADDING_SEGMENT = -1


class EncoderDecoder(MegatronModule):
    """The network.

    Args:
        model: its declaration.
        config: megatron-core's.
    """

    def __init__(self, model: EncoderDecoderConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        self.pg_collection = ProcessGroupCollection.use_mpu_process_groups()
        tensor_group = self.pg_collection.tp
        self.embedding = EncoderDecoderEmbedding(model, config, tensor_group)
        self.encoder, self.decoder = (self._stack(model, layers, name) for name, layers in _sizes(model))
        self.encoder_relative_bias, self.decoder_relative_bias = (
            _relative_bias(model, config, tensor_group.size(), is_causal=name == "decoder") for name in STACKS
        )
        self.output_dropout = HiddenDropout(config) if model.drops_output else None
        self.output_scale = model.output_scale
        self.ties_output = model.ties_output
        self.output_layer = ColumnParallelLinear(
            model.hidden_size,
            model.padded_vocab_size,
            config=config,
            init_method=config.init_method,
            bias=model.has_output_bias,
            skip_weight_param_allocation=model.ties_output,
            tp_group=tensor_group,
        )
        self._first_seed = None
        if model.hidden_dropout or model.attention_dropout or model.activation_dropout:
            seed_layers(self.encoder.layers)
            seed_layers(self.decoder.layers, before=model.num_layers)
            self._first_seed = model.num_layers + model.decoder_layers + 1

    def _stack(self, model: EncoderDecoderConfig, layers: int, name: str) -> TransformerBlock:
        spec = layer_spec(model, self.config, is_decoder=name == "decoder")
        return TransformerBlock(
            self.config,
            TransformerBlockSubmodules(layer_specs=[spec] * layers, layer_norm=Norm),
            post_layer_norm=not model.is_post_norm,
            pg_collection=self.pg_collection,
        )

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Nothing: there is no stage before this one; megatron-core's schedules call it."""

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        """Run the network.

        Args:
            batch: with `decoder_tokens_BT` and `decoder_position_ids_BT` among its extras, and where needed
                `decoder_segment_ids_BT` (padding is a segment of its own) and `cross_visible_BS` (bool: what the
                decoder sees of the encoder, beside that it never sees padding).

        Returns:
            The logits, [T, B, V].
        """
        extras, segments_BS = batch.extras, batch.segment_ids_BS
        source_SBH = self.embedding(batch.tokens_BS, batch.position_ids_BS, of_decoder=False)
        mask, bias = _seen(self.encoder_relative_bias, batch.tokens_BS, segments_BS)
        source_SBH = self.encoder(source_SBH, mask, rotary_pos_emb=bias)
        source_SBH = self._dropped(source_SBH, 0)
        self._seed(1)
        tokens_BT = extras["decoder_tokens_BT"]
        stream_TBH = self.embedding(tokens_BT, extras["decoder_position_ids_BT"], of_decoder=True)
        mask, bias = _seen(self.decoder_relative_bias, tokens_BT, extras.get("decoder_segment_ids_BT"))
        visible_BS = cross_visible(segments_BS, extras.get("cross_visible_BS"))
        stream_TBH = self.decoder(stream_TBH, mask, context=source_SBH, context_mask=visible_BS, rotary_pos_emb=bias)
        stream_TBH = self._dropped(stream_TBH, 2)
        if self.output_scale != 1.0:
            stream_TBH = stream_TBH * self.output_scale
        table = self.embedding.word_embeddings.weight if self.ties_output else None
        logits_TBV: torch.Tensor = self.output_layer(stream_TBH, weight=table)[0]
        return logits_TBV

    def _dropped(self, stream_SBH: torch.Tensor, place: int) -> torch.Tensor:
        if self.output_dropout is None:
            return stream_SBH
        self._seed(place)
        dropped: torch.Tensor = self.output_dropout(stream_SBH)
        return dropped

    def _seed(self, place: int) -> None:
        # After the numbers of the layers: what is dropped here has draws of its own.
        if self._first_seed is not None:
            seed_layer(self._first_seed + place)


def cross_visible(segment_ids_BS: torch.Tensor | None, visible_BS: torch.Tensor | None) -> torch.Tensor | None:
    """Which tokens of the encoder the decoder sees, bool [B, S]; None: all."""
    if segment_ids_BS is None:
        return visible_BS
    text_BS = segment_ids_BS != PADDING_SEGMENT
    return text_BS if visible_BS is None else text_BS & visible_BS


def _sizes(model: EncoderDecoderConfig) -> list[tuple[str, int]]:
    return list(zip(STACKS, (model.num_layers, model.decoder_layers)))


def _relative_bias(
    model: EncoderDecoderConfig, config: TransformerConfig, tensor_size: int, *, is_causal: bool
) -> RelativePositionBias | None:
    if not model.bias_buckets:
        return None
    heads = model.num_attention_heads // tensor_size
    return RelativePositionBias(
        model.bias_buckets, model.bias_max_distance, heads, config.params_dtype, is_causal=is_causal
    )


def _seen(
    bias: RelativePositionBias | None, tokens_BS: torch.Tensor, segment_ids_BS: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The segments for the layers, or a bias on their scores which hides what they hide."""
    return (segment_ids_BS, None) if bias is None else (None, bias(tokens_BS, segment_ids_BS))
