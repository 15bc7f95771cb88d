"""BART: norms after the residual sums, as published (Lewis et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.huggingface.config_fields import RoleIds, our_activation, refuse_features
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
from pretrain.models.huggingface.rules import (
    Rule,
    keys_and_values,
    linear,
    parts_of,
    query_groups,
    same,
    vocabulary,
)
from pretrain.models.transformer_config import EMBEDDING

if TYPE_CHECKING:
    import torch

_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
_EPSILON = 1e-5
"""Of all norms of the class."""


class Bart:
    """See `HuggingFaceFamily`.

    The class has a bias of the logits that it does not train: zeros where ours has none. Where it is not zero, ours has
    one and trains it.
    """

    model_type = "bart"
    norm_placement: Literal["post", "pre"] = "post"
    classes: Mapping[str, str] = {"conditional": "BartForConditionalGeneration"}
    sees_both_sides = False
    poolings: Mapping[str, Mapping[str, Any]] = {}

    def head(self, model: BartConfig) -> str:
        """See `HuggingFaceFamily.head`."""
        return "conditional"

    def obstacle(self, model: BartConfig) -> Obstacle | None:
        """See `HuggingFaceFamily.obstacle`."""
        needs = [
            Need("norm_placement", (self.norm_placement,)),
            Need("normalization", ("LayerNorm",)),
            Need("bias", (True,)),
            Need("activation", tuple(_ACTIVATIONS)),
            Need("norm_epsilon", (_EPSILON,)),
        ]
        return first_obstacle(model, self.model_type, needs)

    def to_config(self, model: BartConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        stacks = {
            "layers": (model.num_layers, model.decoder_layers),
            "ffn_dim": (model.ffn_size, model.ffn_size),
            "attention_heads": (model.num_attention_heads, model.num_attention_heads),
        }
        fields = {f"{stack}_{key}": both[at] for key, both in stacks.items() for at, stack in enumerate(_STACKS)}
        return fields | {
            "tie_word_embeddings": True,
            "d_model": model.hidden_size,
            "activation_function": _ACTIVATIONS[model.activation],
            "dropout": model.hidden_dropout,
            "attention_dropout": model.attention_dropout,
            "activation_dropout": model.activation_dropout,
            "init_std": model.init_std,
            "scale_embedding": model.scale_embedding,
            "max_position_embeddings": model.num_positions - model.first_position,
            "decoder_start_token_id": ids.separator,
            "forced_eos_token_id": ids.end_of_document,
            "cls_token_id": ids.classification,
            "sep_token_id": ids.separator,
            "mask_token_id": ids.mask,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> BartConfig:
        """See `HuggingFaceFamily.from_config`."""
        refuse_features(
            fields,
            where,
            is_encoder_decoder=True,
            tie_word_embeddings=True,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            decoder_ffn_dim=fields["encoder_ffn_dim"],
            decoder_attention_heads=fields["encoder_attention_heads"],
        )
        return BartConfig(
            vocab_size=fields["vocab_size"],
            init_std=fields.get("init_std") or 0.02,
            norm_placement=self.norm_placement,
            num_layers=fields["encoder_layers"],
            num_decoder_layers=fields["decoder_layers"],
            hidden_size=fields["d_model"],
            num_attention_heads=fields["encoder_attention_heads"],
            ffn_hidden_size=fields["encoder_ffn_dim"],
            seq_length=fields["max_position_embeddings"],
            activation=our_activation(fields["activation_function"], _ACTIVATIONS, where),  # type: ignore[arg-type]
            scale_embedding=fields.get("scale_embedding") or False,
            hidden_dropout=fields.get("dropout") or 0.0,
            attention_dropout=fields.get("attention_dropout") or 0.0,
            activation_dropout=fields.get("activation_dropout") or 0.0,
        )

    def rules(self, model: BartConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        rules = [vocabulary(EMBEDDING, "model.shared.weight", model)]
        for stack, layers in zip(_STACKS, (model.num_layers, model.decoder_layers)):
            ours, theirs = f"embedding.{stack}.", f"model.{stack}."
            rules.append(same(f"{ours}position_embeddings.weight", f"{theirs}embed_positions.weight"))
            rules += linear(f"{ours}norm", f"{theirs}layernorm_embedding", bias=True)
            for number in range(layers):
                rules += _layer_rules(f"{stack}.layers.{number}.", f"{theirs}layers.{number}.", stack, model)
            if not model.is_post_norm:
                rules += linear(f"{stack}.final_layernorm", f"{theirs}layer_norm", bias=True)
        return [*rules, _output_bias(model)]


_STACKS = ("encoder", "decoder")


def _layer_rules(ours: str, theirs: str, stack: str, model: BartConfig) -> list[Rule]:
    rules = linear(f"{ours}input_layernorm", f"{theirs}self_attn_layer_norm", bias=True)
    for part in parts_of(bias=True):
        qkv = tuple(f"{theirs}self_attn.{name}_proj.{part}" for name in "qkv")
        rules.append(Rule(f"{ours}self_attention.linear_qkv.{part}", qkv, *query_groups(model)))
    rules += linear(f"{ours}self_attention.linear_proj", f"{theirs}self_attn.out_proj", bias=True)
    if stack == "decoder":
        rules += linear(f"{ours}pre_cross_attn_layernorm", f"{theirs}encoder_attn_layer_norm", bias=True)
        rules += linear(f"{ours}cross_attention.linear_q", f"{theirs}encoder_attn.q_proj", bias=True)
        for part in parts_of(bias=True):
            kv = tuple(f"{theirs}encoder_attn.{name}_proj.{part}" for name in "kv")
            rules.append(Rule(f"{ours}cross_attention.linear_kv.{part}", kv, *keys_and_values(model)))
        rules += linear(f"{ours}cross_attention.linear_proj", f"{theirs}encoder_attn.out_proj", bias=True)
    rules += linear(f"{ours}pre_mlp_layernorm", f"{theirs}final_layer_norm", bias=True)
    rules += linear(f"{ours}mlp.linear_fc1", f"{theirs}fc1", bias=True)
    return rules + linear(f"{ours}mlp.linear_fc2", f"{theirs}fc2", bias=True)


def _output_bias(model: BartConfig) -> Rule:
    """The bias of the logits, which theirs has with one row."""
    plain = vocabulary("output_layer.bias", "final_logits_bias", model)

    def split(bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part[None] for part in plain.split(bias))

    def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return plain.join([part[0] for part in parts])

    return Rule(plain.ours, plain.theirs, split, join, zeros_like=EMBEDDING, said_by="output_bias")
