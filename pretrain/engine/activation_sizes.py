"""How large activations are, by the kind of layer that gives them, and how far training has moved them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

KINDS = {
    "embedding": r"embedding",
    "attention": r".*\.layers\.\d+\.(self|cross)_attention",
    "mlp": r".*\.layers\.\d+\.mlp",
    "hidden": r".*\.layers\.\d+",
    "logits": r"output_layer",
}
"""The modules of each kind, by name: the embedding, what attentions and MLPs add to the residual stream, the stream
after each layer, the logits."""


class ActivationSizes:
    """Measures a whole network, in forward passes over the same samples.

    Args:
        module: of one pipeline stage and tensor rank.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._modules = {
            name: (kind, part)
            for name, part in module.named_modules()
            for kind, pattern in KINDS.items()
            if re.fullmatch(pattern, name)
        }
        self._now: dict[str, list[torch.Tensor]] = {}
        self._first: dict[str, list[torch.Tensor]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the modules give in the block, which is one forward pass."""
        self._now = {}

        def keep(name: str) -> Any:
            def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
                given = output[0] if isinstance(output, tuple) else output
                self._now.setdefault(name, []).append(given.detach().float().clone())

            return hook

        hooks = [part.register_forward_hook(keep(name)) for name, (_, part) in self._modules.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._first = self._first or self._now

    def sizes(self) -> dict[str, float]:
        """Mean absolute value of an element in the last pass, by kind."""
        return self._means({name: [given.abs() for given in found] for name, found in self._now.items()})

    def changes(self) -> dict[str, float]:
        """Mean absolute difference of an element in the last pass to the first one, by kind."""
        return self._means(
            {
                name: [(given - before).abs() for given, before in zip(found, self._first[name], strict=True)]
                for name, found in self._now.items()
            }
        )

    def _means(self, found: dict[str, list[torch.Tensor]]) -> dict[str, float]:
        means: dict[str, list[float]] = {}
        for name, tensors in found.items():
            means.setdefault(self._modules[name][0], []).extend(float(tensor.mean()) for tensor in tensors)
        return {kind: sum(means[kind]) / len(means[kind]) for kind in KINDS if kind in means}
