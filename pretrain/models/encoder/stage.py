"""The encoder of one pipeline stage: embedding on the first, layers on each, heads on the last.

Shape letters: B micro-batch, S tokens, H hidden size, V vocabulary entries of this tensor rank.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import ColumnParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import (
    TransformerBlock,
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)

from pretrain.models.encoder.config import PAIR_CLASSES, EncoderConfig
from pretrain.models.encoder.embedding import EncoderEmbedding
from pretrain.models.encoder.heads import MaskedTokenHead, Pooler
from pretrain.models.encoder.layer import layer_specs, norm_of
from pretrain.models.family import StagePlace


class EncoderStage(MegatronModule):
    """One pipeline stage of an encoder.

    Args:
        model: the network.
        config: megatron-core's.
        place: which part of it.
    """

    def __init__(self, model: EncoderConfig, config: TransformerConfig, place: StagePlace) -> None:
        super().__init__(config)
        self.pg_collection = ProcessGroupCollection.use_mpu_process_groups()
        self.pre_process, self.post_process = place.is_first, place.is_last
        tensor_group = self.pg_collection.tp
        if place.is_first:
            self.embedding = EncoderEmbedding(model, config, tensor_group)
        # Not registered as modules: they have no weights.
        self._rotary = [
            RotaryEmbedding(model.head_size, rotary_percent=1.0, rotary_base=base, use_cpu_initialization=True)  # type: ignore[arg-type]
            for base in model.rotary_bases
        ]
        count = get_num_layers_to_build(config)
        self.encoder = TransformerBlock(
            config,
            TransformerBlockSubmodules(
                layer_specs=layer_specs(model, config, place.stage * count, count), layer_norm=norm_of(model)
            ),
            post_layer_norm=not model.is_post_norm,
            pre_process=place.is_first,
            post_process=place.is_last,
            pg_collection=self.pg_collection,
        )
        self.has_pair_head = place.is_last and model.has_pair_head
        self.output_multiplier = model.output_multiplier
        if place.is_last:
            self._build_heads(model, tensor_group, owns_decoder=not place.is_first)

    def _build_heads(
        self, model: EncoderConfig, tensor_group: torch.distributed.ProcessGroup, *, owns_decoder: bool
    ) -> None:
        self.lm_head = MaskedTokenHead(model, self.config)
        self.output_layer = ColumnParallelLinear(
            model.hidden_size,
            model.padded_vocab_size,
            config=self.config,
            init_method=self.config.init_method,
            bias=True,
            skip_weight_param_allocation=not owns_decoder,
            tp_group=tensor_group,
        )
        if model.has_pair_head:
            self.pooler = Pooler(model, self.config, tensor_group)
            self.pair_head = torch.nn.Linear(model.hidden_size, PAIR_CLASSES, dtype=self.config.params_dtype)

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Take what the stage before sent; megatron-core's schedules call it."""
        self.encoder.set_input_tensor(input_tensor[0] if isinstance(input_tensor, list) else input_tensor)

    def forward(
        self,
        tokens_BS: torch.Tensor,
        position_ids_BS: torch.Tensor,
        segment_ids_BS: torch.Tensor | None,
        token_types_BS: torch.Tensor | None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Run the stage.

        Returns:
            The residual stream [S, B, H]; on the last stage the logits [S, B, V], and with a head for pairs also its
            logits [B, 2].
        """
        stream_SBH = self.embedding(tokens_BS, position_ids_BS, token_types_BS) if self.pre_process else None
        stream_SBH = self.encoder(stream_SBH, segment_ids_BS, rotary_pos_emb=self._angles(tokens_BS.shape[1]))
        if not self.post_process:
            return stream_SBH
        decoder = self.embedding.word_embeddings.weight if self.pre_process else None
        logits_SBV, _ = self.output_layer(self._scaled(self.lm_head(stream_SBH)), weight=decoder)
        if not self.has_pair_head:
            return logits_SBV
        return logits_SBV, self.pair_head(self._scaled(self.pooler(stream_SBH)))

    def _scaled(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.output_multiplier == 1.0 else hidden * self.output_multiplier

    def _angles(self, length: int) -> torch.Tensor | None:
        if not self._rotary:
            return None
        return torch.stack([rotary(length) for rotary in self._rotary])
