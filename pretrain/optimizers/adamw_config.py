"""The declaration of AdamW."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.optimizer import NORMALIZED, OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec


class AdamWConfig(OptimizerConfig):
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    implementation: ClassVar[str] = "pretrain.optimizers.adamw:AdamW"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("exp_avg"), StateSpec("exp_avg_sq"))
    is_element_wise: ClassVar[bool] = True

    name: str = "adamw"
    """Which optimizer it is."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """Table 8's for Adam, as long as `epsilon` is far below the gradients, which fall with the width."""
        return NORMALIZED
