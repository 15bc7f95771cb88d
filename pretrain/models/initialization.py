"""The stage of a rank, built without memory, and how its parameters get theirs.

Every parameter of a stage gets the attributes `spec` (its row of the family's table), `sharded_shape` (which part of
it this rank holds) and megatron-core's `tensor_model_parallel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from pretrain.config.method import NetworkMethod
from pretrain.config.model import ModelConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.models.family import ModelFamily, StagePlace
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape

Fill = Callable[[ParameterSpec, ShardedShape, int, int, torch.Tensor], None]
"""Writes a part of a parameter: its row of the table, this rank's shard, first element of the flattened shard and one
past the last, and the flat tensor of so many elements that takes them; `InitialValues` is one."""

_LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")


def build_stage(
    family: ModelFamily,
    model: ModelConfig,
    parallel: ParallelConfig,
    dtype: torch.dtype,
    place: StagePlace,
    method: NetworkMethod | None = None,
) -> tuple[torch.nn.Module, Any]:
    """A rank's part of the network, its parameters without memory: on the device `meta`, each with its attributes.

    Args:
        family: builds it.
        model: the network.
        parallel: sequence parallelism and recompute.
        dtype: of weights and activations.
        place: which part.
        method: what is trained; where that is an adapter, the module has it, and all else is frozen. None: all.

    Returns:
        The module, and megatron-core's config of it.

    Raises:
        AssertionError: if the module and the family's table differ in names, shapes or cuts.
    """
    first_layer = place.stage * (model.num_layers // place.num_stages)
    with parameters_without_memory():
        module, transformer_config = family.build(model, parallel, dtype, place)
        added: list[ParameterSpec] = []
        if method is not None and method.freezes:
            method.implement()(method).put_in(module, model, transformer_config, first_layer)
            added = list(method.trained_parameters(model))
    _describe(module, model, added, place, parallel.sequence_parallel)
    return module, transformer_config


def first_values(drawn: Fill, frozen: Fill | None, trained: Iterable[ParameterSpec]) -> Fill:
    """What fills a new stage: `drawn` what is trained, `frozen` all else; without the latter, all."""
    if frozen is None:
        return drawn
    names = {spec.name for spec in trained}

    def fill(spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, target: torch.Tensor) -> None:
        (drawn if spec.name in names else frozen)(spec, shape, start, stop, target)

    return fill


def materialize(module: torch.nn.Module, device: torch.device, fill: Fill) -> None:
    """Give every parameter of a built stage its memory on `device`, and its values."""

    def with_memory(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        fill(parameter.spec, parameter.sharded_shape, 0, whole.numel(), whole.view(-1))  # type: ignore[attr-defined]
        return torch.nn.Parameter(whole, parameter.requires_grad)

    replace_parameters(module, with_memory)


def replace_parameters(
    module: torch.nn.Module, replacement: Callable[[torch.nn.Parameter], torch.nn.Parameter]
) -> None:
    """Put another parameter in the place of each of `module`'s, one after the other; attributes are kept.

    torch lets no parameter change from the device `meta` to another. What several modules share stays shared.
    """
    replaced: dict[int, torch.nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) not in replaced:
                new = replacement(parameter)
                vars(new).update(vars(parameter))
                replaced[id(parameter)] = new
            owner.register_parameter(name, replaced[id(parameter)])


@contextmanager
def parameters_without_memory() -> Iterator[None]:
    """Parameters of the modules that are made in the block are on the device `meta`; all else is as it would be.

    One by one, as soon as a module registers them: what a constructor writes into them costs nothing either.
    """

    def forget(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        if parameter.is_meta:
            return parameter
        forgotten = torch.nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        vars(forgotten).update(vars(parameter))
        return forgotten

    # torch takes what a hook returns, though its annotation says None.
    hook = register_module_parameter_registration_hook(forget)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()


def _describe(
    module: torch.nn.Module,
    model: ModelConfig,
    added: list[ParameterSpec],
    place: StagePlace,
    sequence_parallel: bool,
) -> None:
    """Set each parameter's attributes, after checking it against the table, and what was added to that."""
    held = {
        name: spec
        for spec in (*model.parameters(), *added)
        if spec.is_held_by(place.stage, place.num_stages, model.num_layers)
        for name in (spec.name, *spec.local_names)
    }
    first_layer = place.stage * (model.num_layers // place.num_stages)
    found: set[str] = set()
    for local_name, parameter in module.named_parameters():
        name = global_name(local_name, first_layer)
        assert name in held, f"{name} of the module is not in the table of {model.name}"
        spec = held[name]
        _check_against(spec, parameter, place, sequence_parallel)
        found.add(spec.name)
        shape = sharded_shape(spec, place.tensor_rank, place.tensor_size)
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
