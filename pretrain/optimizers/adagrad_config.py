"""The declaration of Adagrad."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.optimizer import NORMALIZED, OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec


class AdagradConfig(OptimizerConfig):
    """Adagrad (Duchi et al. 2011): each element's rate falls with the sum of its squared gradients; decoupled decay."""

    implementation: ClassVar[str] = "pretrain.optimizers.adagrad:Adagrad"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("sum"),)
    is_element_wise: ClassVar[bool] = True

    name: str = "adagrad"
    """Which optimizer it is."""
    initial_sum: float = Field(default=0.0, ge=0)
    """What the sums of squares begin with."""
    epsilon: float = Field(default=1e-10, gt=0)
    """Added to the denominator."""

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """As Adam's: an update does not change with the size of all gradients, which fall with the width."""
        return NORMALIZED

    @property
    def width_obstacle(self) -> str | None:
        """See the base class."""
        if not self.initial_sum:
            return None
        return f"has optimizer.initial_sum={self.initial_sum:g} (not 0), beside which gradients fall with the width"
