"""The optimizer of a stage's parameters, in the groups that DeepSpeed shards each by itself."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.config.optimizer import OptimizerConfig
from pretrain.optimizers.optimizer import optimizer_kind_of


def grouped_optimizer(
    parameters: list[torch.nn.Parameter], config: OptimizerConfig, num_layers: int
) -> torch.optim.Optimizer:
    """The optimizer with groups of what decays alike, keeps the same states and has the same rate.

    What is tied has a group of its own, so that both copies are cut alike.
    """
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    order = sorted(parameters, key=lambda p: (not p.spec.is_tied, not p.spec.decays))  # type: ignore[attr-defined]
    for parameter in order:
        spec = parameter.spec  # type: ignore[attr-defined]
        scale = config.lr_scale(spec, num_layers)
        # Times the rate, the decay of a wide model is that of its base (mup's optimizers do the same).
        decay_scale = 1.0 / config.width_rate(spec) if spec.decays else 0.0
        kind = (spec.is_tied, decay_scale, config.states_of(spec), scale)
        decay = config.weight_decay * decay_scale
        new = {"params": [], "weight_decay": decay, "decay_scale": decay_scale, "lr_scale": scale}
        groups.setdefault(kind, new)["params"].append(parameter)
    return optimizer_kind_of(config).build(list(groups.values()), config)
