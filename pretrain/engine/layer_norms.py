"""Norms of the weights, the gradients and the updates of each layer, over all ranks, of a step that asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from pretrain.engine.norms import square_sum
from pretrain.engine.topology import Topology
from pretrain.engine.zero_optimizer import ZeroOptimizer
from pretrain.models.parameter_table import ParameterSpec

_LAYER = re.compile(r"(.*layers\.\d+)\.")


@dataclass(frozen=True)
class LayerNorm:
    """Norms over the parameters of one layer.

    Attributes:
        weight: of the weights before the step.
        gradient: of the gradient, before it is clipped.
        update: of what the step changed.
    """

    weight: float
    gradient: float
    update: float


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to, such as `decoder.layers.3`; else its module, such as `output_layer`."""
    found = _LAYER.match(name)
    return found[1] if found else name.rpartition(".")[0] or name


class LayerNormMeter:
    """Measures one step. Holds a copy of this rank's fp32 weights from `begin` to `end`.

    Args:
        zero: the optimizer.
        topology: this rank's place.
        table: the parameters of the whole model.
        is_counted: whether this rank's shard of a parameter counts; of replicas, one does.
    """

    def __init__(
        self,
        zero: ZeroOptimizer,
        topology: Topology,
        table: Iterable[ParameterSpec],
        is_counted: Callable[[torch.nn.Parameter], bool],
    ) -> None:
        self._zero, self._topology, self._is_counted = zero, topology, is_counted
        self._names = list(dict.fromkeys(layer_of(spec.name) for spec in table))
        self._before: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        self._gradients = torch.zeros(len(self._names), dtype=torch.float64, device=topology.device)

    def begin(self) -> None:
        """Before the step: keep the weights."""
        self._before = []
        for owned in self._zero.owned_ranges():
            if self._is_counted(owned.parameter):
                view = owned.flat.data[owned.offset : owned.offset + owned.stop - owned.start]
                self._before.append((self._name_of(owned.parameter), view, view.clone()))

    def take_gradients(self, shards: Iterable[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        """In the step: the finished gradients, scaled by the loss scale."""
        counted = [(self._name_of(p), g) for p, g in shards if self._is_counted(p)]
        self._gradients = self._sums(counted) / self._zero.loss_scale**2

    def end(self) -> dict[str, LayerNorm]:
        """After the step, by layer, in the order of the network. Collective."""
        weights = self._sums((name, before) for name, _, before in self._before)
        updates = self._sums((name, after - before) for name, after, before in self._before)
        self._before = []
        sums = torch.stack([weights, self._gradients, updates])
        dist.all_reduce(sums)
        norms = sums.sqrt().T.tolist()
        return {name: LayerNorm(*found) for name, found in zip(self._names, norms)}

    def _name_of(self, parameter: torch.nn.Parameter) -> str:
        return layer_of(parameter.spec.name)  # type: ignore[attr-defined]

    def _sums(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> torch.Tensor:
        device = self._topology.device
        sums = torch.zeros(len(self._names), dtype=torch.float64, device=device)
        for name, tensor in tensors:
            sums[self._names.index(name)] += square_sum([tensor], device)
        return sums
