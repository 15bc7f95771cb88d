"""The declaration of Adafactor."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pretrain.config.optimizer import NORMALIZED, OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec

ROW, COLUMN = StateSpec("exp_avg_sq_row", "row"), StateSpec("exp_avg_sq_column", "column")
ELEMENT, MOMENTUM = StateSpec("exp_avg_sq"), StateSpec("exp_avg")


class AdafactorConfig(OptimizerConfig):
    """Adafactor (Shazeer and Stern 2018, algorithms 4 and 5; T5's optimizer).

    A matrix keeps one second moment per row and one per column; the matrices of a packed weight (queries, keys, values;
    gate and up) have columns of their own. Vectors keep one per element. Weight decay is decoupled and goes by `lr`
    alone. With `relative_step`, `lr` is relative to the weights: 0.01 with schedule inverse_sqrt, a warm-up of 10,000
    steps and `warmup_shape` constant is T5's 1/sqrt(max(n, 10^4)) at step n (Raffel et al. 2020, section 3.1.2): 0.01
    for the first 10^4 steps, then the inverse root of the step.
    """

    implementation: ClassVar[str] = "pretrain.optimizers.adafactor:Adafactor"
    takes_parameters: ClassVar[bool] = True

    name: str = "adafactor"
    """Which optimizer it is."""
    relative_step: bool = True
    """Whether a step is `lr` times the weights' root mean square (algorithm 4), of at least `epsilon_scale`."""
    beta1: float | None = Field(default=None, ge=0, lt=1)
    """Decay of a first moment of the updates; null: none is kept."""
    decay_rate: float = Field(default=0.8, gt=0)
    """At step t the second moments decay by 1 - t^-decay_rate."""
    clip_threshold: float = Field(default=1.0, gt=0)
    """Root mean square to which an update is scaled down."""
    epsilon: float = Field(default=1e-30, gt=0)
    """Added to squared gradients."""
    epsilon_scale: float = Field(default=1e-3, gt=0)
    """The least root mean square that weights are taken to have."""

    def states_of(self, spec: ParameterSpec) -> tuple[StateSpec, ...]:
        """See the base class."""
        second = (ROW, COLUMN) if len(spec.shape) == 2 else (ELEMENT,)
        return second if self.beta1 is None else (*second, MOMENTUM)

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """As Adam's; relative to the weights, which are the smaller by the root of the width, by the root less."""
        return WidthExponents(matrix=-0.5) if self.relative_step else NORMALIZED
