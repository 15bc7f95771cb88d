"""The declaration of Lion."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.optimizer import NORMALIZED, OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec


class LionConfig(OptimizerConfig):
    """Lion (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum, with decoupled weight decay.

    Every element moves by `lr`: rates 3 to 10 times smaller than AdamW's, and decays as much larger, are usual
    (section 5 there).
    """

    implementation: ClassVar[str] = "pretrain.optimizers.lion:Lion"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("exp_avg"),)
    is_element_wise: ClassVar[bool] = True

    name: str = "lion"
    """Which optimizer it is."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Share of the momentum in the update."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the momentum."""

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """As Adam's: every element of an update is as large as the rate."""
        return NORMALIZED
