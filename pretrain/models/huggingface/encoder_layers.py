"""What the transformers encoders of BERT's line share: their config fields and the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.huggingface.config_fields import RoleIds, our_activation, refuse_features
from pretrain.models.huggingface.obstacles import Need
from pretrain.models.huggingface.rules import Rule, linear, parts_of, query_groups, same, vocabulary
from pretrain.models.transformer_config import EMBEDDING

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}
NEEDS = [
    Need("normalization", ("LayerNorm",)),
    Need("bias", (True,)),
]
"""What all of them need."""


def bert_fields(model: BertConfig | RobertaConfig, ids: RoleIds) -> dict[str, Any]:
    """Fields of the config."""
    return {
        "tie_word_embeddings": True,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_attention_heads,
        "hidden_act": ACTIVATIONS[model.activation],
        "hidden_dropout_prob": model.hidden_dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "max_position_embeddings": model.seq_length,
        "type_vocab_size": model.num_token_types,
        "layer_norm_eps": model.norm_epsilon,
        "cls_token_id": ids.classification,
        "sep_token_id": ids.separator,
        "mask_token_id": ids.mask,
    }


def our_fields(fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """Fields of our config that such a config says, but for the length.

    Raises:
        DataError: it has features that ours does not have.
    """
    refuse_features(
        fields,
        where,
        is_decoder=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
        position_embedding_type="absolute",
    )
    return {
        "vocab_size": fields["vocab_size"],
        "init_std": fields.get("initializer_range") or 0.02,
        "num_layers": fields["num_hidden_layers"],
        "hidden_size": fields["hidden_size"],
        "num_attention_heads": fields["num_attention_heads"],
        "ffn_hidden_size": fields["intermediate_size"],
        "norm_epsilon": fields["layer_norm_eps"],
        "activation": our_activation(fields["hidden_act"], ACTIVATIONS, where),
        "hidden_dropout": fields.get("hidden_dropout_prob", 0.0),
        "attention_dropout": fields.get("attention_probs_dropout_prob", 0.0),
    }


def embedding_rules(body: str, positions: Rule, model: BertConfig | RobertaConfig) -> list[Rule]:
    """How the embedding's tensors map.

    Args:
        body: name of the class' body, such as `bert`.
        positions: how the table of positions does.
        model: ours.
    """
    theirs = f"{body}.embeddings"
    rules = [
        vocabulary(EMBEDDING, f"{theirs}.word_embeddings.weight", model),
        positions,
        same("embedding.tokentype_embeddings.weight", f"{theirs}.token_type_embeddings.weight"),
    ]
    if model.has_embedding_norm:
        rules += linear("embedding.norm", f"{theirs}.LayerNorm", bias=True)
    return rules


def layer_rules(body: str, attention_norm: str, mlp_norm: str, model: BertConfig | RobertaConfig) -> list[Rule]:
    """How the tensors of all layers map.

    Args:
        body: name of the class' body, such as `bert`.
        attention_norm: name within a layer of the norm at its attention.
        mlp_norm: of the norm at its MLP.
        model: ours.
    """
    rules: list[Rule] = []
    for number in range(model.num_layers):
        ours, theirs = f"encoder.layers.{number}.", f"{body}.encoder.layer.{number}."
        rules += linear(f"{ours}input_layernorm", theirs + attention_norm, bias=True)
        for part in parts_of(bias=True):
            qkv = tuple(f"{theirs}attention.self.{name}.{part}" for name in ("query", "key", "value"))
            rules.append(Rule(f"{ours}self_attention.linear_qkv.{part}", qkv, *query_groups(model)))
        rules += linear(f"{ours}self_attention.linear_proj", f"{theirs}attention.output.dense", bias=True)
        rules += linear(f"{ours}pre_mlp_layernorm", theirs + mlp_norm, bias=True)
        rules += linear(f"{ours}mlp.linear_fc1", f"{theirs}intermediate.dense", bias=True)
        rules += linear(f"{ours}mlp.linear_fc2", f"{theirs}output.dense", bias=True)
    return rules


def head_rules(dense: str, norm: str, bias: str, model: BertConfig | RobertaConfig) -> list[Rule]:
    """How the tensors of the masked-token head map; its decoder is tied to the embedding.

    Args:
        dense: their name of the dense layer.
        norm: of the norm after it.
        bias: of the decoder's bias.
        model: ours.
    """
    rules = linear("lm_head.dense", dense, bias=True) + linear("lm_head.layer_norm", norm, bias=True)
    return [*rules, vocabulary("output_layer.bias", bias, model)]
