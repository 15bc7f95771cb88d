"""Whether a model has a counterpart in Hugging Face's transformers, told without the packages that an export needs."""

from __future__ import annotations

from pretrain.config.model import ModelConfig
from pretrain.models.gpt.config import GPTConfig


def obstacle_to_export(model: ModelConfig) -> str | None:
    """What of `model` no architecture of transformers computes; None: `python -m finetune export` finds one.

    The export itself decides; a test holds the two together.
    """
    if not isinstance(model, GPTConfig):
        return f"model.name={model.name}"
    positions = "learned" if model.position_embedding == "learned" else "rotary"
    if positions == "learned" and model.normalization != "LayerNorm":
        return f"learned positions with model.normalization={model.normalization}"
    if (model.activation == "swiglu") != (model.normalization == "RMSNorm"):
        return f"{positions} positions and {model.normalization} with model.activation={model.activation}"
    if positions == "learned" and model.query_groups != model.num_attention_heads:
        return f"learned positions with model.num_query_groups={model.query_groups}"
    return None
