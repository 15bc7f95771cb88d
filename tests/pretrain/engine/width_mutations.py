"""Ways to break width scaling that are silent and wrong when missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _output_not_scaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import network

    saboteur.replace(network, "scale_input", lambda layer, scale: None)


def _scores_not_scaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.width_scaling import WidthScaledConfig

    saboteur.replace(WidthScaledConfig, "width_scaled_softmax", lambda self, scale: scale)


def _rates_not_scaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.config.optimizer import OptimizerConfig

    saboteur.replace(OptimizerConfig, "width_rate", lambda self, spec: 1.0)


def _drawn_as_the_base(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.width_scaling import WidthScaledConfig

    original = WidthScaledConfig._width_scaled

    def scaled(self: Any, spec: Any) -> Any:
        return replace(original(self, spec), init=spec.init)

    saboteur.replace(WidthScaledConfig, "_width_scaled", scaled)


WIDTH_MUTATIONS: dict[str, Mutation] = {
    "the output layer's input not scaled": Mutation(
        0, "width, zero 2, pipeline 2", _output_not_scaled, Differs(loss=1e-2, norm=1e-2)
    ),
    "attention scores not scaled": Mutation(
        0, "width, sharp, zero 1, tensor 2", _scores_not_scaled, Differs(norm=1e-3)
    ),
    "rates of the base": Mutation(0, "width, zero 1, tensor 2", _rates_not_scaled, Differs(loss=1e-3, norm=1e-2)),
    "initial values of the base": Mutation(
        0, "width, zero 1, tensor 2", _drawn_as_the_base, Differs(loss=1e-3, norm=1e-1)
    ),
}
