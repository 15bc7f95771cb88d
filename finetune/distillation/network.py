"""The network that learns and its teacher as one, so that an engine shards both and one forward pass runs both.

Shape letters: R rows, S tokens, H hidden size of the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from configs.errors import ConfigError
from finetune.distillation.config import DistillationConfig

_STUDENT = "student."


class DistillationNetwork(torch.nn.Module):
    """Gives what the student gives; while it trains, `taught` is what the teacher gave for the same inputs.

    Args:
        student: learns.
        teacher: frozen; in evaluation mode always.
        layers: pairs of a layer of each whose hidden states are compared; empty: none are.
        projections: for each pair, what takes the student's states to the teacher's width.
    """

    def __init__(
        self,
        student: torch.nn.Module,
        teacher: torch.nn.Module,
        layers: Sequence[tuple[int, int]],
        projections: torch.nn.ModuleList,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.projections = student, teacher, projections
        self.layers = list(layers)
        self.taught: Any = None
        self.distance_R: torch.Tensor | None = None
        self.train(student.training)

    def train(self, mode: bool = True) -> DistillationNetwork:
        """The student trains; the teacher drops nothing out."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, **inputs: Any) -> Any:
        """What the student gives; in evaluation mode the teacher is not asked."""
        if not self.training:
            return self.student(**inputs)
        more = {"output_hidden_states": True} if self.layers else {}
        with torch.no_grad():
            self.taught = self.teacher(**inputs, **more)
        output = self.student(**inputs, **more)
        if self.layers:
            self.distance_R = self._distances(output, inputs["attention_mask"])
        return output

    def _distances(self, output: Any, mask_RS: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of the hidden states of each row over its tokens, their width and the layers, [R]."""
        counted_RS = mask_RS.float()
        total = 0.0
        for (own, theirs), project in zip(self.layers, self.projections, strict=True):
            states_RSH = project(output.hidden_states[own]).float()
            apart_RS = (states_RSH - self.taught.hidden_states[theirs].float()).square().mean(-1)
            total = total + (apart_RS * counted_RS).sum(1) / counted_RS.sum(1)
        distances_R: torch.Tensor = total / len(self.layers)  # type: ignore[assignment]
        return distances_R


def with_teacher(
    student: Any, teacher: Any, config: DistillationConfig, seed: int, partitioner: Any = None
) -> DistillationNetwork:
    """A student with its teacher, and projections where their widths differ.

    Args:
        student: learns; of transformers, or an adapted one.
        teacher: of transformers.
        config: what is learned.
        seed: decides the projections' first weights.
        partitioner: makes their parameters, as those of the networks, at ZeRO-3.

    Raises:
        ConfigError: `layers` names one that a network does not have.
    """
    teacher.requires_grad_(False)
    layers = layer_pairs(_depth(student), _depth(teacher), config) if config.hidden_weight else []
    own, theirs = (int(network.config.hidden_size) for network in (student, teacher))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = [torch.nn.Identity() if own == theirs else torch.nn.Linear(own, theirs, bias=False) for _ in layers]
    projections = torch.nn.ModuleList(made)
    if partitioner is not None:
        from pretrain.models.initialization import replace_parameters

        replace_parameters(projections, lambda parameter: partitioner.partition(parameter.data))
    return DistillationNetwork(student, teacher, layers, projections)


def layer_pairs(own: int, theirs: int, config: DistillationConfig) -> list[tuple[int, int]]:
    """The pairs of layers whose outputs are compared.

    Args:
        own: layers of the student.
        theirs: layers of the teacher.
        config: says which, or leaves it to us.

    Raises:
        ConfigError: there is no such layer.
    """
    if config.layers is None:
        return [(layer, round(layer * theirs / own)) for layer in range(1, own + 1)]
    for pair in config.layers:
        for layer, count, whose in zip(pair, (own, theirs), ("new network", "teacher")):
            if not 0 <= layer <= count:
                raise ConfigError(
                    f"has the pair {list(pair)}, and the {whose} has {count} layers",
                    where="distillation.layers",
                    expected=f"from 0 to {count}",
                )
    return list(config.layers)


def student_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The student's weights among those of the whole, by their names in the student."""
    return {name.removeprefix(_STUDENT): tensor for name, tensor in weights.items() if name.startswith(_STUDENT)}


def _depth(network: Any) -> int:
    return int(network.config.num_hidden_layers)
