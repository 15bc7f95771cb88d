"""BERT as published: norms after the residual sums (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.encoder.bert_config import BertConfig
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
from pretrain.models.huggingface.rules import Rule, linear, same

POSITIONS = "embedding.position_embeddings.weight"


class Bert:
    """See `HuggingFaceFamily`. Its classes with two heads are those of a model with a pooler."""

    model_type = "bert"
    norm_placement = "post"
    classes: Mapping[str, str] = {
        "masked": "BertForMaskedLM",
        "pretraining": "BertForPreTraining",
        "classification": "BertForSequenceClassification",
    }
    sees_both_sides = True
    poolings: Mapping[str, Mapping[str, Any]] = {"first": {}}

    def head(self, model: BertConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "pretraining" if model.has_pair_head else "masked"

    def obstacle(self, model: BertConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        placement = Need("norm_placement", (self.norm_placement,))
        return first_obstacle(model, self.model_type, [placement, *NEEDS, Need("activation", tuple(ACTIVATIONS))])

    def to_config(self, model: BertConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        return bert_fields(model, ids)

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> BertConfig:
        """See `HuggingFaceFamily.from_config`; a pooler is in the classes for pairs only."""
        return BertConfig(
            **our_fields(fields, where),
            norm_placement=self.norm_placement,  # type: ignore[arg-type]
            seq_length=fields["max_position_embeddings"],
            token_types=fields["type_vocab_size"],
            pooler=fields.get("architectures") == [self.classes["pretraining"]],
        )

    def rules(self, model: BertConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        positions = same(POSITIONS, "bert.embeddings.position_embeddings.weight")
        rules = embedding_rules("bert", positions, model) + self.body_rules(model)
        head = "cls.predictions"
        rules += head_rules(f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.bias", model)
        if model.has_pair_head:
            rules += linear("pooler.dense", "bert.pooler.dense", bias=True)
            rules += linear("pair_head", "cls.seq_relationship", bias=True)
        return rules

    def body_rules(self, model: BertConfig) -> list[Rule]:
        """How the tensors of the layers map, and those of the norm after them where there is one."""
        return layer_rules("bert", "attention.output.LayerNorm", "output.LayerNorm", model)
