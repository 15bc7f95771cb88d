"""Initial weights, and what each parameter of a built stage is: both from the family's table.

Every parameter of a stage gets the attributes `spec` (its row of the table), `sharded_shape` (which part of it this
rank holds) and megatron-core's `tensor_model_parallel`.
"""

from __future__ import annotations

import hashlib
import re

import torch

from pretrain.config.model import ModelConfig
from pretrain.models.family import StagePlace
from pretrain.models.parameter_table import Constant, ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape

_LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")


def initialize(
    module: torch.nn.Module, model: ModelConfig, place: StagePlace, *, seed: int, sequence_parallel: bool = False
) -> None:
    """Give every parameter of a stage its row of the table and its initial values.

    Values are a function of (seed, name) alone, so that every layout starts from the same model.

    Raises:
        AssertionError: if the module and the table differ in names, shapes or cuts.
    """
    held = {
        name: spec
        for spec in model.parameters()
        if spec.is_held_by(place.stage, place.num_stages, model.num_layers)
        for name in (spec.name, *spec.local_names)
    }
    first_layer = place.stage * (model.num_layers // place.num_stages)
    found: set[str] = set()
    with torch.no_grad():
        for local_name, parameter in module.named_parameters():
            name = global_name(local_name, first_layer)
            assert name in held, f"{name} of the module is not in the table of {model.name}"
            spec = held[name]
            _check_against(spec, parameter, place, sequence_parallel)
            found.add(spec.name)
            shape = sharded_shape(spec, place.tensor_rank, place.tensor_size)
            parameter.copy_(initial_shard(spec, shape, seed))
            parameter.spec = spec  # type: ignore[attr-defined]
            parameter.sharded_shape = shape  # type: ignore[attr-defined]
            parameter.tensor_model_parallel = shape.tensor_axis is not None  # type: ignore[attr-defined]
    missing = {spec.name for spec in held.values()} - found
    assert not missing, f"the module has no {sorted(missing)}, which the table of {model.name} names"


def global_name(local_name: str, first_layer: int) -> str:
    """The name of a parameter with its layer numbered over the whole model."""
    match = _LAYER.match(local_name)
    if match is None:
        return local_name
    before, number, after = match.groups()
    return f"{before}{int(number) + first_layer}{after}"


def sharded_shape(spec: ParameterSpec, tensor_rank: int, tensor_size: int) -> ShardedShape:
    """Where one tensor rank's shard of a parameter lies in the whole."""
    axis = spec.tensor_axis if tensor_size > 1 else None
    return ShardedShape(
        name=spec.name,
        global_shape=spec.shape,
        local_shape=spec.local_shape(tensor_size),
        tensor_axis=axis,
        # megatron gives each rank [gate_r; up_r], so its rows are two runs of the whole [gate; up].
        blocks=spec.blocks,
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


def initial_shard(spec: ParameterSpec, shape: ShardedShape, seed: int) -> torch.Tensor:
    """Initial fp32 values of a shard."""
    if isinstance(spec.init, Constant):
        return torch.full(shape.local_shape, spec.init.value)
    # torch's generator on the CPU looks at the low 32 bits of a seed only: both go into them.
    digest = hashlib.blake2b(f"{seed} {spec.name}".encode(), digest_size=4).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    std, cutoff = spec.init.std, spec.init.cutoff
    if cutoff is None:
        return shard_of(torch.randn(spec.shape, generator=generator) * std, shape)
    whole = torch.empty(spec.shape)
    torch.nn.init.trunc_normal_(whole, std=std, a=-cutoff * std, b=cutoff * std, generator=generator)
    return shard_of(whole, shape)


def _check_against(
    spec: ParameterSpec, parameter: torch.nn.Parameter, place: StagePlace, sequence_parallel: bool
) -> None:
    local = spec.local_shape(place.tensor_size)
    assert tuple(parameter.shape) == local, f"{spec.name} is {tuple(parameter.shape)}, by its table {local}"
    # Where megatron's layers mark what they cut and what sequence parallelism leaves partial, both must agree.
    if getattr(parameter, "tensor_model_parallel", False):
        cut = getattr(parameter, "partition_dim", spec.tensor_axis)
        assert cut == spec.tensor_axis, f"{spec.name} is cut on axis {cut}, by its table {spec.tensor_axis}"
    if sequence_parallel:
        is_partial = bool(getattr(parameter, "sequence_parallel", False))
        assert is_partial == spec.sequence_partial, f"{spec.name}: partial {is_partial}, by its table not"
