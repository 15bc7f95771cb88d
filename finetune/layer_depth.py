"""How deep a parameter of a transformers model lies, by its name: for layer-wise rates and for frozen lower layers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from configs.errors import ConfigError

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"^(.*?(?:^|\.))(?:layers?|h|blocks?)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?!embed_out\.)(?:\w*embed\w*|wte|wpe|shared|mask_emb)(?:\.|$)")
HEAD = -1
"""Layers above a parameter that is above all layers: of the head, or of the norm before it."""


class LayerDepths:
    """The layers of a network.

    Args:
        network: of transformers, or with names like its.
        key: the setting that needs them, for the message.

    Attributes:
        above: parameter name -> how many layers of its stack are above it: `HEAD` for what is above all of them, the
            number of layers for embeddings. An encoder and a decoder are counted each by itself.
        below: parameter name -> how many layers are below it; -1 for embeddings; None above all layers.
        num_layers: of the highest stack.

    Raises:
        ConfigError: no parameter's name has the number of a layer.
    """

    def __init__(self, network: torch.nn.Module, key: str) -> None:
        names = [name for name, _ in network.named_parameters()]
        found = {name: match for name in names if (match := _LAYER.match(name))}
        if not found:
            raise ConfigError(
                f"{type(network).__name__} does not number its layers in the names of its weights",
                where=key,
                expected="the default: this network has no layers that it could tell apart",
            )
        stacks: dict[str, int] = {}
        for match in found.values():
            stacks[match[1]] = max(stacks.get(match[1], 0), int(match[2]) + 1)
        self.num_layers = max(stacks.values())
        self.above: dict[str, int] = {}
        self.below: dict[str, int | None] = {}
        for name in names:
            if name in found:
                number = int(found[name][2])
                self.above[name], self.below[name] = stacks[found[name][1]] - 1 - number, number
            elif _EMBEDDING.search(name):
                self.above[name], self.below[name] = self.num_layers, -1
            else:
                self.above[name], self.below[name] = HEAD, None


def freeze_lower(network: torch.nn.Module, count: int) -> int:
    """Have the embeddings and the `count` lowest layers of each stack not trained; the number of weights left.

    Raises:
        ConfigError: the network has fewer layers, or nothing would be left to train.
    """
    from pretrain.engine.task_partitioning import whole_shape

    depths = LayerDepths(network, "training.freeze_layers")
    if count > depths.num_layers:
        raise ConfigError(
            f"is {count}", where="training.freeze_layers", expected=f"at most {depths.num_layers}, the model's layers"
        )
    left = 0
    for name, parameter in network.named_parameters():
        below = depths.below[name]
        parameter.requires_grad_(below is None or below >= count)
        left += math.prod(whole_shape(parameter)) if parameter.requires_grad else 0
    if not left:
        raise ConfigError(f"is {count}: nothing is left to train", where="training.freeze_layers", expected="less")
    return left
