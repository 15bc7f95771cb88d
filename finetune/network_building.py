"""The weights of a transformers class under a new head: pretrained where there are such, else random by their name.

Built whole, or, where the ranks of ZeRO-3 share it, one tensor after the other into partitions; with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.engine.task_partitioning import Partitioner

_PARTITIONER: ContextVar[Partitioner | None] = ContextVar("partitioner", default=None)


@contextmanager
def built_by(partitioner: Partitioner | None) -> Iterator[None]:
    """Networks that `head_network` makes of pretrained weights in the block are partitioned from the start."""
    token = _PARTITIONER.set(partitioner)
    try:
        yield
    finally:
        _PARTITIONER.reset(token)


def network_without_memory(build: Callable[[], PreTrainedModel]) -> tuple[PreTrainedModel, Partitioner | None]:
    """What `build` makes; with parameters on the device `meta` where they are to be partitioned, and by what."""
    partitioner = _PARTITIONER.get()
    if partitioner is None:
        return build(), None
    from pretrain.models.initialization import parameters_without_memory

    with parameters_without_memory():
        return build(), partitioner


def fill_network(
    model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], names: set[str], partitioner: Partitioner | None
) -> None:
    """Give a network its weights.

    Args:
        model: whole with any weights, or without memory.
        tensors: the pretrained weights, each read when it is asked for.
        names: those of them that it takes; all others of its own are new: the parts of the network that have only such
            are named in its `new_parts`.
        partitioner: makes the parameters of one without memory.
    """
    import torch

    from pretrain.models.initialization import replace_parameters

    known: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in names:
            known.setdefault(id(parameter), name)
    _draw_new(model, {id(p) for p in model.parameters()} - known.keys())
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for name in sorted(names & buffers.keys()):
            buffers[name].copy_(tensors[name])
        if partitioner is None:
            for parameter in model.parameters():
                if id(parameter) in known:
                    parameter.copy_(tensors[known[id(parameter)]])
            return

    def partitioned(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        assert partitioner is not None
        name = known.get(id(parameter))
        whole = parameter.data if name is None else tensors[name].float()
        return partitioner.partition(whole, parameter.requires_grad)

    replace_parameters(model, partitioned)


def _draw_new(model: Any, new: set[int]) -> None:
    """Draw the parameters of every part of the network that has no pretrained ones, by its name and torch's seed."""
    import torch

    seed = torch.initial_seed()
    with torch.random.fork_rng(devices=[]):
        parts = list(_new_parts(model, "", new))
        model.new_parts = [name.removeprefix(".") for name, _ in parts]
        for name, part in parts:
            torch.manual_seed(_seed_of(seed, name))
            for module in part.modules():
                for key, parameter in list(module.named_parameters(recurse=False)):
                    if parameter.is_meta:
                        memory = torch.zeros(parameter.shape, dtype=parameter.dtype)
                        module.register_parameter(key, torch.nn.Parameter(memory, parameter.requires_grad))
            part.apply(lambda module: _draw(model, module))


def _draw(model: Any, module: torch.nn.Module) -> None:
    """As torch makes a module, then as its class of transformers wants it."""
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()
    model._init_weights(module)


def _new_parts(module: torch.nn.Module, name: str, new: set[int]) -> Iterator[tuple[str, torch.nn.Module]]:
    """The largest parts of a network all of whose parameters are new."""
    own = [id(parameter) for parameter in module.parameters()]
    if own and new.issuperset(own):
        yield name, module
        return
    for key, child in module.named_children():
        yield from _new_parts(child, f"{name}.{key}", new)


def _seed_of(seed: int, name: str) -> int:
    from hashlib import blake2b

    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") >> 1
