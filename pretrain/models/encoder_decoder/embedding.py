"""Tokens and positions -> the residual stream of each stack; both read one table of tokens.

Shape letters: B micro-batch, S tokens, H hidden size.
"""

from __future__ import annotations

import torch
from megatron.core import tensor_parallel
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule

from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.hidden_dropout import HiddenDropout
from pretrain.models.layers import Norm


class StackEmbedding(torch.nn.Module):
    """What one stack has of its own: positions, norm, dropout.

    Args:
        model: which of them there are.
        config: megatron-core's.
        tensor_group: ranks that share a sequence under sequence parallelism.
    """

    def __init__(
        self, model: EncoderDecoderConfig, config: TransformerConfig, tensor_group: torch.distributed.ProcessGroup
    ) -> None:
        super().__init__()
        self.tensor_group = tensor_group if config.sequence_parallel else None
        self.first_position = model.first_position
        self.position_embeddings = None
        if model.num_positions:
            size = (model.num_positions, model.hidden_size)
            self.position_embeddings = torch.nn.Embedding(*size, dtype=config.params_dtype)
        self.norm = Norm(config, model.hidden_size, model.norm_epsilon) if model.has_embedding_norm else None
        self.dropout = HiddenDropout(config)

    def forward(self, tokens_BSH: torch.Tensor, position_ids_BS: torch.Tensor) -> torch.Tensor:
        """The residual stream [S, B, H], this rank's part of the sequence under sequence parallelism.

        Args:
            tokens_BSH: the tokens' vectors.
            position_ids_BS: from 0; not read where there is no table of positions.
        """
        if self.position_embeddings is not None:
            tokens_BSH = tokens_BSH + self.position_embeddings(position_ids_BS + self.first_position)
        stream_SBH = tokens_BSH.transpose(0, 1).contiguous()
        if self.tensor_group is not None:
            # A view would keep the whole sequence in memory.
            stream_SBH = tensor_parallel.scatter_to_sequence_parallel_region(
                stream_SBH, group=self.tensor_group
            ).clone()
        if self.norm is not None:
            stream_SBH = self.norm(stream_SBH)
        dropped: torch.Tensor = self.dropout(stream_SBH)
        return dropped


class EncoderDecoderEmbedding(MegatronModule):
    """The table of tokens, and what each stack has of its own.

    Args:
        model: the network.
        config: megatron-core's.
        tensor_group: ranks that share the table.
    """

    def __init__(
        self, model: EncoderDecoderConfig, config: TransformerConfig, tensor_group: torch.distributed.ProcessGroup
    ) -> None:
        super().__init__(config)
        self.scale = model.embedding_scale
        self.word_embeddings = tensor_parallel.VocabParallelEmbedding(
            model.padded_vocab_size,
            model.hidden_size,
            init_method=config.embedding_init_method,
            config=config,
            tp_group=tensor_group,
        )
        self.encoder = StackEmbedding(model, config, tensor_group)
        self.decoder = StackEmbedding(model, config, tensor_group)

    def forward(self, tokens_BS: torch.Tensor, position_ids_BS: torch.Tensor, *, of_decoder: bool) -> torch.Tensor:
        """The residual stream that a stack begins with; see `StackEmbedding`."""
        tokens_BSH = self.word_embeddings(tokens_BS)
        if self.scale != 1.0:
            tokens_BSH = tokens_BSH * self.scale
        stream_SBH: torch.Tensor = (self.decoder if of_decoder else self.encoder)(tokens_BSH, position_ids_BS)
        return stream_SBH
