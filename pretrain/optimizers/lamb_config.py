"""The declaration of LAMB."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.optimizer import OptimizerConfig, StateSpec


class LambConfig(OptimizerConfig):
    """LAMB (You et al. 2020, algorithm 2): Adam's step of each weight matrix, scaled to the matrix' own norm.

    The matrices of a packed weight (queries, keys, values; gate and up) have ratios of their own. Vectors, which do
    not decay, are not scaled, as in the authors' code.
    """

    implementation: ClassVar[str] = "pretrain.optimizers.lamb:Lamb"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("exp_avg"), StateSpec("exp_avg_sq"))
    takes_parameters: ClassVar[bool] = True

    name: str = "lamb"
    """Which optimizer it is."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the denominator."""

    @property
    def width_obstacle(self) -> str | None:
        """See the base class."""
        return "has its weight decay within the update that is scaled to the weights' norm: no rate keeps both alike"
