"""The declaration of Muon."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pretrain.config.optimizer import NORMALIZED, OptimizerConfig, StateSpec, WidthExponents
from pretrain.models.parameter_table import ParameterSpec


class MuonConfig(OptimizerConfig):
    """Muon (Jordan et al. 2024): the momentum of each matrix of a layer, made orthogonal by a Newton-Schulz iteration.

    Each matrix that a weight packs (queries, keys, values; gate and up) is made orthogonal by itself. Embeddings, the
    head, norms and biases are trained by AdamW. With `scale` as by default, learning rate and weight decay are those of
    AdamW (Liu et al. 2025, section 2.2).
    """

    implementation: ClassVar[str] = "pretrain.optimizers.muon:Muon"
    takes_parameters: ClassVar[bool] = True
    of_matrices: ClassVar[tuple[StateSpec, ...]] = (StateSpec("momentum_buffer"),)
    of_others: ClassVar[tuple[StateSpec, ...]] = (StateSpec("exp_avg"), StateSpec("exp_avg_sq"))

    name: str = "muon"
    """Which optimizer it is."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the momentum of the matrices."""
    nesterov: bool = True
    """Whether the gradient is mixed into the momentum once more before it is made orthogonal."""
    iterations: int = Field(default=5, ge=1, le=20)
    """Newton-Schulz iterations."""
    iteration_precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the iterations; bf16 is quicker on a GPU, and rounds differently in each layout."""
    scale: Literal["rms", "spectral"] = "rms"
    """What an orthogonal matrix of r rows and c columns is multiplied by: `rms`, 0.2 sqrt(max(r, c)), so that its
    elements are as large as AdamW's steps; `spectral`, sqrt(max(1, r / c)), as first published."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's decay of the second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to AdamW's denominator."""

    def states_of(self, spec: ParameterSpec) -> tuple[StateSpec, ...]:
        """See the base class."""
        return self.of_matrices if spec.is_hidden_matrix else self.of_others

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """Adam's where AdamW trains. The largest singular value of an update should stay (Yang et al. 2023).

        It is that of an orthogonal matrix times `scale`, which with `rms` grows with the root of the width.
        """
        if not spec.is_hidden_matrix:
            return NORMALIZED
        return WidthExponents(matrix=-0.5 if self.scale == "rms" else 0.0)
