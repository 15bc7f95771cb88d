"""An independent forward pass of the GPT that our checkpoints hold, in plain torch, and random weights for it.

Written from the definition of the model (not from megatron-core, not from transformers), so that the mapping and the
logit check are held against something that shares no code with either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from pretrain.config.model import ModelConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.gpt.config import GPTConfig


def random_tensors(model: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Global name -> fp32 tensor; norms away from 1 and biases away from 0, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in ((spec.name, spec.shape) for spec in model.parameters()):
        noise = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            tensors[name] = 1 + 0.2 * noise
        else:
            tensors[name] = noise * (0.3 if name.endswith("bias") else 1 / math.sqrt(shape[-1]))
    return tensors


def oracle_outputs(model: GPTConfig, tensors: Mapping[str, torch.Tensor], batch: MicroBatch) -> dict[str, torch.Tensor]:
    """The logits as a logit check's reference gives them."""
    return {"logits": oracle_logits(model, tensors, batch.tokens_BS)}


def oracle_logits(model: GPTConfig, tensors: Mapping[str, torch.Tensor], tokens_BS: torch.Tensor) -> torch.Tensor:
    """fp32 logits [B, S, padded vocabulary]."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = tensors[f"{name}.weight"]
        if model.normalization == "RMSNorm":
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + model.norm_epsilon) * weight
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        return centred / torch.sqrt(variance + model.norm_epsilon) * weight + tensors[f"{name}.bias"]

    length = tokens_BS.shape[1]
    hidden = tensors["embedding.word_embeddings.weight"][tokens_BS]
    if model.position_embedding == "learned":
        hidden = hidden + tensors["embedding.position_embeddings.weight"][:length]
    for number in range(model.num_layers):
        layer = f"decoder.layers.{number}"
        packed = linear(norm(hidden, f"{layer}.input_layernorm"), f"{layer}.self_attention.linear_qkv")
        attended = _attention(model, packed)
        hidden = hidden + linear(attended, f"{layer}.self_attention.linear_proj")
        inner = linear(norm(hidden, f"{layer}.pre_mlp_layernorm"), f"{layer}.mlp.linear_fc1")
        hidden = hidden + linear(_activate(model, inner), f"{layer}.mlp.linear_fc2")
    hidden = norm(hidden, "decoder.final_layernorm")
    output = tensors["embedding.word_embeddings.weight" if model.tie_embeddings else "output_layer.weight"]
    return hidden @ output.t()


def _attention(model: GPTConfig, packed: torch.Tensor) -> torch.Tensor:
    batch, length, _ = packed.shape
    size, heads, groups = model.head_size, model.num_attention_heads, model.query_groups
    per_group = heads // groups
    rows = packed.view(batch, length, groups, per_group + 2, size)
    out = torch.empty(batch, length, heads, size)
    future = torch.ones(length, length).triu(1).bool()
    for head in range(heads):
        group, member = divmod(head, per_group)
        query, key, value = rows[:, :, group, member], rows[:, :, group, -2], rows[:, :, group, -1]
        if model.position_embedding == "rope":
            query, key = _rotate(model, query), _rotate(model, key)
        scores = (query @ key.transpose(1, 2) / math.sqrt(size)).masked_fill(future, float("-inf"))
        out[:, :, head] = torch.softmax(scores, -1) @ value
    return out.reshape(batch, length, heads * size)


def _rotate(model: GPTConfig, x: torch.Tensor) -> torch.Tensor:
    """Element i and element i + size/2 form a pair that turns by position * base^(-2i/size)."""
    half = model.head_size // 2
    speed = model.rotary_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = (torch.arange(x.shape[1], dtype=torch.float64)[:, None] * speed).float()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def _activate(model: GPTConfig, inner: torch.Tensor) -> torch.Tensor:
    if model.activation == "swiglu":
        gate, up = inner.split(model.ffn_size, -1)
        return gate * torch.sigmoid(gate) * up
    if model.activation == "gelu":
        return inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    cubic = inner + 0.044715 * inner**3
    return inner * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * cubic))
