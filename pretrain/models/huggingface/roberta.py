"""RoBERTa: BERT's network without pairs; positions are counted from the id of the padding token + 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from pretrain.models.encoder.bert_config import RobertaConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.encoder_layers import (
    ACTIVATIONS,
    NEEDS,
    bert_fields,
    embedding_rules,
    head_rules,
    layer_rules,
    our_fields,
)
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rules import Rule

if TYPE_CHECKING:
    import torch


class Roberta:
    """See `HuggingFaceFamily`. The head's activation is gelu, whatever the layers have."""

    model_type = "roberta"
    classes: Mapping[str, str] = {"masked": "RobertaForMaskedLM", "classification": "RobertaForSequenceClassification"}
    sees_both_sides = True
    poolings: Mapping[str, Mapping[str, Any]] = {"first": {}}

    def head(self, model: RobertaConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "masked"

    def obstacle(self, model: RobertaConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        return first_obstacle(model, self.model_type, [*NEEDS, Need("activation", tuple(ACTIVATIONS))])

    def to_config(self, model: RobertaConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`; the table of positions is as long as the padding token's id asks for."""
        return bert_fields(model, ids) | {"max_position_embeddings": model.seq_length + _padding(ids) + 1}

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> RobertaConfig:
        """See `HuggingFaceFamily.from_config`."""
        ids = RoleIds.of(fields)
        if fields["type_vocab_size"] != 1:
            raise DataError(f"type_vocab_size is {fields['type_vocab_size']}", where=where, expected="1")
        if ids.pad is None:
            raise DataError("pad_token_id is null", where=where, expected="an id: positions are counted from it")
        length = fields["max_position_embeddings"] - ids.pad - 1
        return RobertaConfig(**our_fields(fields, where), seq_length=length)

    def rules(self, model: RobertaConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        rules = embedding_rules("roberta", _positions(model, _padding(ids)), model)
        rules += layer_rules("roberta", "attention.output.LayerNorm", "output.LayerNorm", model)
        return rules + head_rules("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", model)


def _padding(ids: RoleIds) -> int:
    if ids.pad is None:
        raise ConfigError(
            "has no token to pad with, from whose id transformers' RoBERTa counts positions",
            where="the tokenizer",
            expected="a tokenizer with the role pad; not tokenizer=none",
        )
    return ids.pad


def _positions(model: RobertaConfig, padding: int) -> Rule:
    """The rows before the first position are never read: there are as many as each side counts from."""
    unread = padding + 1

    def split(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (_moved(rows, model.first_position, unread),)

    def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return _moved(parts[0], unread, model.first_position)

    ours, theirs = "embedding.position_embeddings.weight", "roberta.embeddings.position_embeddings.weight"
    return Rule(ours, (theirs,), split, join)


def _moved(rows: torch.Tensor, skipped: int, zeros: int) -> torch.Tensor:
    """Rows from `skipped` on, with `zeros` rows of zeros before them; as they are where the two are equal."""
    import torch

    return rows if skipped == zeros else torch.cat([rows.new_zeros(zeros, rows.shape[1]), rows[skipped:]])
