"""Less gradient for the embedding of tokens than it gets, which keeps large models from diverging."""

from __future__ import annotations

from typing import Any

import torch


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient * ctx.scale, None


def scale_lookup_gradient(stage: torch.nn.Module, embedding: str, scale: float) -> None:
    """Multiply the gradient that a stage's looked-up tokens pass to their embedding (Zeng et al. 2023, section 3.1).

    What a tied output layer adds to the same weight stays whole.

    Args:
        stage: this rank's part of the network.
        embedding: name of the module that looks tokens up; on the first stage only.
        scale: what the gradient is multiplied by.
    """
    module = dict(stage.named_modules()).get(embedding)
    if module is not None:
        module.register_forward_hook(lambda owner, inputs, output: _ScaledGradient.apply(output, scale))
