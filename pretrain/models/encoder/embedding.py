"""What the first stage does: tokens, positions and token types -> the residual stream.

Shape letters: B micro-batch, S tokens, H hidden size.
"""

from __future__ import annotations

import torch
from megatron.core import tensor_parallel
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule

from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.layer import norm_of
from pretrain.models.hidden_dropout import HiddenDropout


class EncoderEmbedding(MegatronModule):
    """The sum of the embeddings, its norm, its dropout.

    Args:
        model: which embeddings there are.
        config: megatron-core's.
        tensor_group: ranks that share the token table.
    """

    def __init__(
        self, model: EncoderConfig, config: TransformerConfig, tensor_group: torch.distributed.ProcessGroup
    ) -> None:
        super().__init__(config)
        self.tensor_group = tensor_group
        self.first_position = model.first_position
        self.word_embeddings = tensor_parallel.VocabParallelEmbedding(
            model.padded_vocab_size,
            model.hidden_size,
            init_method=config.embedding_init_method,
            config=config,
            tp_group=tensor_group,
        )
        self.position_embeddings = _table(model.num_positions, config)
        self.tokentype_embeddings = _table(model.num_token_types, config)
        self.norm = norm_of(model)(config, model.hidden_size, model.norm_epsilon) if model.has_embedding_norm else None
        self.dropout = HiddenDropout(config)

    def forward(
        self, tokens_BS: torch.Tensor, position_ids_BS: torch.Tensor, token_types_BS: torch.Tensor | None
    ) -> torch.Tensor:
        """The residual stream [S, B, H], this rank's part of the sequence under sequence parallelism.

        Args:
            tokens_BS: ids.
            position_ids_BS: from 0; not read where positions are rotary.
            token_types_BS: None: 0 everywhere.
        """
        sum_BSH = self.word_embeddings(tokens_BS)
        if self.position_embeddings is not None:
            sum_BSH = sum_BSH + self.position_embeddings(position_ids_BS + self.first_position)
        if self.tokentype_embeddings is not None:
            types_BS = torch.zeros_like(tokens_BS) if token_types_BS is None else token_types_BS
            sum_BSH = sum_BSH + self.tokentype_embeddings(types_BS)
        stream_SBH = sum_BSH.transpose(0, 1).contiguous()
        if not self.config.sequence_parallel:
            return self._finish(stream_SBH)
        part_SBH = tensor_parallel.scatter_to_sequence_parallel_region(stream_SBH, group=self.tensor_group)
        # A view would keep the whole sequence in memory.
        return self._finish(part_SBH.clone())

    def _finish(self, stream_SBH: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            stream_SBH = self.norm(stream_SBH)
        dropped: torch.Tensor = self.dropout(stream_SBH)
        return dropped


def _table(rows: int, config: TransformerConfig) -> torch.nn.Embedding | None:
    return torch.nn.Embedding(rows, config.hidden_size, dtype=config.params_dtype) if rows else None
