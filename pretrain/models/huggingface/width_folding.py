"""What width scaling multiplies at each step, multiplied into weights: transformers' classes have no place for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.config.model import ModelConfig
from pretrain.models.transformer_config import EMBEDDING, OUTPUT
from pretrain.models.width_scaling import WidthScaledConfig

if TYPE_CHECKING:
    import torch

_LAST_NORMS = ("decoder.final_layernorm.", "lm_head.layer_norm.")
"""What the output layer reads comes out of one of these norms, and nothing else of pretraining reads it."""


def folded(name: str, tensor: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """The tensor with which a model without multipliers computes what `model` computes.

    The multiplier of the output layer goes into its matrix; where that is the embedding, into the norm before it. That
    of a head for pairs goes into its matrix; the scale of attention scores into the queries, or into their norm. A
    class that multiplies its embeddings by the root of the width, not of the base's, gets smaller ones; where they are
    tied, its last norm makes up for it.

    Args:
        name: global name.
        tensor: whole, as a checkpoint has it; is not changed.
        model: what it belongs to.
    """
    if not isinstance(model, WidthScaledConfig) or not model.is_width_scaled:
        return tensor
    plus_one = bool(getattr(model, "norm_plus_one", False))
    embeddings = model.width_ratio**-0.5 if getattr(model, "embedding_scale", False) else 1.0
    if name == EMBEDDING and embeddings != 1.0:
        return tensor * embeddings
    is_tied = getattr(model, "tie_embeddings", True)
    if name.startswith(_LAST_NORMS) and is_tied:
        return _scaled_norm(tensor, model.output_multiplier / embeddings, plus_one and name.endswith(".weight"))
    # Not into the norm: near -1, a weight to which the class adds 1 has few digits in bfloat16.
    if name in (OUTPUT, "pair_head.weight"):
        return tensor * model.output_multiplier
    scale = model.head_ratio**-0.5
    if scale == 1.0:
        return tensor
    if name.endswith("self_attention.q_layernorm.weight"):
        return _scaled_norm(tensor, scale, plus_one)
    if ".self_attention.linear_qkv." in name and getattr(model, "qk_norm", None) is None:
        return _scaled_queries(tensor, scale, model)
    return tensor


def _scaled_norm(weight: torch.Tensor, scale: float, plus_one: bool) -> torch.Tensor:
    """A norm that multiplies by `scale` times as much; with `plus_one` it multiplies by 1 + its weight."""
    return (weight + 1.0) * scale - 1.0 if plus_one else weight * scale


def _scaled_queries(packed: torch.Tensor, scale: float, model: WidthScaledConfig) -> torch.Tensor:
    grouped = packed.reshape(model.query_groups, -1, model.head_size, *packed.shape[1:]).clone()
    grouped[:, : model.num_attention_heads // model.query_groups] *= scale
    return grouped.reshape(packed.shape)
