"""What objectives that ask for tokens declare of their loss beside its nats."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pretrain.config.objective import ObjectiveConfig

TRAINED_ONLY = ("z_loss", "label_smoothing")
"""Keys that no evaluation reads."""


class TokenLossConfig(ObjectiveConfig):
    """An objective whose labels are tokens. Evaluations report the nats alone, whatever these keys say."""

    z_loss: float = Field(default=0.0, ge=0)
    """Coefficient of log(Z)^2, Z the denominator of the softmax, which keeps it near 1 (PaLM, section 5: 1e-4)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread evenly over the tokenizer's ids (Szegedy et al. 2016, section 7: 0.1)."""

    def evaluated(self) -> dict[str, Any]:
        """See the base class."""
        return {key: value for key, value in super().evaluated().items() if key not in TRAINED_ONLY}
