"""What every parameter is, by its global name: how tensor parallelism cuts it, how it starts, whether it decays.

The global name is megatron-core's, with layers numbered over the whole model, so it is the same in every layout.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass

import torch

from pretrain.checkpoint.pieces import ShardedShape
from pretrain.model_config import ModelConfig

TIED_WEIGHT = "embedding.word_embeddings.weight"
OUTPUT_WEIGHT = "output_layer.weight"
_LAYER = re.compile(r"^(decoder\.layers\.)(\d+)(\..*)$")


@dataclass(frozen=True)
class ParameterRule:
    """How one kind of parameter behaves.

    Attributes:
        tensor_axis: the axis that tensor-parallel ranks cut; None: each rank has it whole.
        init_std: standard deviation of the initial values; None: `init_constant` everywhere.
        init_constant: the initial value where `init_std` is None.
        decays: whether weight decay applies.
    """

    tensor_axis: int | None
    init_std: float | None
    init_constant: float
    decays: bool


def global_name(local_name: str, first_layer: int, *, tied: bool) -> str:
    """The global name of a parameter that this stage calls `local_name`.

    Args:
        local_name: as `named_parameters` of the stage's module gives it.
        first_layer: number of this stage's first layer in the whole model.
        tied: whether the output layer shares the embedding's weights, so that the last stage's copy has its name.
    """
    if tied and local_name == OUTPUT_WEIGHT:
        return TIED_WEIGHT
    match = _LAYER.match(local_name)
    if match is None:
        return local_name
    before, number, after = match.groups()
    return f"{before}{int(number) + first_layer}{after}"


def rule_for(name: str, model: ModelConfig) -> ParameterRule:
    """The rule of the parameter with global name `name`.

    Raises:
        KeyError: for a name that no GPT has.
    """
    residual_std = model.init_std / math.sqrt(2 * model.num_layers)
    if "layernorm" in name:
        return ParameterRule(None, None, 1.0 if name.endswith("weight") else 0.0, decays=False)
    if name.endswith("position_embeddings.weight"):
        return ParameterRule(None, model.init_std, 0.0, decays=True)
    if name in (TIED_WEIGHT, OUTPUT_WEIGHT):
        return ParameterRule(0, model.init_std, 0.0, decays=True)
    if name.endswith(("linear_qkv.weight", "linear_fc1.weight")):
        return ParameterRule(0, model.init_std, 0.0, decays=True)
    if name.endswith(("linear_qkv.bias", "linear_fc1.bias")):
        return ParameterRule(0, None, 0.0, decays=False)
    if name.endswith(("linear_proj.weight", "linear_fc2.weight")):
        return ParameterRule(1, residual_std, 0.0, decays=True)
    if name.endswith(("linear_proj.bias", "linear_fc2.bias")):
        return ParameterRule(None, None, 0.0, decays=False)
    raise KeyError(name)


def sharded_shape(
    name: str, local_shape: torch.Size, model: ModelConfig, tensor_rank: int, tensor_size: int
) -> ShardedShape:
    """Where this rank's shard of the parameter `name` lies in the whole."""
    axis = rule_for(name, model).tensor_axis
    if tensor_size == 1:
        axis = None
    shape = tuple(local_shape)
    whole = tuple(size * (tensor_size if i == axis else 1) for i, size in enumerate(shape))
    # megatron gives each rank [gate_r; up_r], so its rows are two runs of the whole [gate; up].
    gated = "linear_fc1" in name and model.activation == "swiglu"
    return ShardedShape(
        name=name,
        global_shape=whole,
        local_shape=shape,
        tensor_axis=axis,
        blocks=2 if gated else 1,
        tensor_rank=tensor_rank,
        tensor_size=tensor_size,
    )


def shard_of(whole: torch.Tensor, shape: ShardedShape) -> torch.Tensor:
    """Cut one rank's shard out of a whole parameter."""
    if shape.tensor_axis is None:
        return whole
    blocks = whole.chunk(shape.blocks, 0) if shape.tensor_axis == 0 else (whole,)
    parts = [block.chunk(shape.tensor_size, shape.tensor_axis)[shape.tensor_rank] for block in blocks]
    return torch.cat(parts, 0) if len(parts) > 1 else parts[0]


def initial_shard(shape: ShardedShape, model: ModelConfig, seed: int) -> torch.Tensor:
    """Initial fp32 values of a shard: a function of (seed, name) alone, so every layout starts from the same model."""
    rule = rule_for(shape.name, model)
    if rule.init_std is None:
        return torch.full(shape.local_shape, rule.init_constant)
    generator = torch.Generator().manual_seed((seed << 32) | zlib.crc32(shape.name.encode()))
    return shard_of(torch.randn(shape.global_shape, generator=generator) * rule.init_std, shape)
