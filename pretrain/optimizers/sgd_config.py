"""The declaration of SGD."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from pretrain.config.optimizer import OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec


class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum, with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 1).

    The momentum is `m = momentum * m + gradient`, as torch has it: the learning rate is not damped by it.
    """

    implementation: ClassVar[str] = "pretrain.optimizers.sgd:SGD"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("momentum_buffer"),)
    is_element_wise: ClassVar[bool] = True

    name: str = "sgd"
    """Which optimizer it is."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the momentum that stays at each step; 0: none is kept."""
    nesterov: bool = False
    """Whether the step looks ahead along the momentum (Sutskever et al. 2013, section 2.1)."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> SGDConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0 (found 0)")
        return self

    def states_of(self, spec: ParameterSpec) -> tuple[StateSpec, ...]:
        """See the base class."""
        return self.states if self.momentum else ()

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """Table 8's for SGD: gradients of what has one axis of the model's width fall with it, of matrices not."""
        return WidthExponents(matrix=0.0, vector=1.0)
