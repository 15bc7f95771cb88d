"""Maximal update parametrization (muP): a wide model that trains well with what was chosen for a narrow one.

After Tensor Programs V (Yang et al. 2022, arXiv:2203.03466), table 8, the form that tied embeddings can have. With m,
how many times as wide the model is as its base:

| | init variance | multiplier | Adam's rate | SGD's rate |
|---|---|---|---|---|
| embeddings, positions, norms, biases (input weights, vectors) | 1 | 1 | 1 | m |
| matrices of the layers, of the encoders' heads (hidden weights) | 1/m | 1 | 1/m | 1 |
| output layer, tied or not (output weights) | 1 | 1/m | 1 | m |

Products of queries and keys are divided by the head size, not by its root (definition 4.1): where heads are wider than
the base's, r times, their scale is multiplied by r^-1/2. Rates of other optimizers:
`OptimizerConfig.width_exponents`. Gemma's multiplier of the embeddings stays the root of the base's width. At the
base's own width all is as without.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, model_validator

from pretrain.models.parameter_table import Normal, ParameterSpec
from pretrain.models.transformer_config import TransformerModelConfig


class WidthScaledConfig(TransformerModelConfig):
    """A transformer whose width can grow at the same rates. A subclass declares one family."""

    head_matrices: ClassVar[tuple[str, ...]] = ()
    """Matrices outside of the layers that read and write the model's width."""
    class_vectors: ClassVar[tuple[str, ...]] = ("output_layer.bias",)
    """Vectors that do not grow with the width: they have a number per token id or class."""

    base_hidden_size: int | None = Field(default=None, gt=0)
    """Width of the narrow model whose learning rate and init_std this one has, scaled to its own width (muP; Yang et
    al. 2022); all inner widths are taken to grow alike. Null: hidden_size, nothing is scaled."""
    base_head_size: int | None = Field(default=None, gt=0)
    """Width of one attention head in that model; null: as here, there are more heads."""

    @model_validator(mode="after")
    def _base_is_whole(self) -> WidthScaledConfig:
        if self.base_head_size is not None and self.base_hidden_size is None:
            raise ValueError(
                f"base_head_size is {self.base_head_size}, and base_hidden_size is null; expected both, or"
                " base_head_size=null"
            )
        if self.is_width_scaled and type(self).parameters is not WidthScaledConfig.parameters:
            raise ValueError(
                f"base_hidden_size is {self.base_hidden_size}, and {type(self).__name__} gives its parameters without"
                " it; expected unscaled_parameters in its place, or base_hidden_size=null"
            )
        return self

    @property
    def is_width_scaled(self) -> bool:
        """See the base class."""
        return self.base_hidden_size is not None

    @property
    def width_ratio(self) -> float:
        """How many times as wide the model is as its base."""
        return self.hidden_size / (self.base_hidden_size or self.hidden_size)

    @property
    def head_ratio(self) -> float:
        """How many times as wide an attention head is as in the base."""
        return self.head_size / (self.base_head_size or self.head_size)

    @property
    def output_multiplier(self) -> float:
        """What the output layer's input is multiplied by; of a head for pairs, too."""
        return 1.0 / self.width_ratio

    def width_scaled_softmax(self, scale: float | None) -> float | None:
        """What products of queries and keys are multiplied by.

        Args:
            scale: what they would be without width scaling; None: 1 / sqrt(head size).

        Returns:
            the like.
        """
        if self.head_ratio == 1.0:
            return scale
        return (self.head_size**-0.5 if scale is None else scale) * self.head_ratio**-0.5

    def parameters(self) -> Iterator[ParameterSpec]:
        """See the base class."""
        return map(self._width_scaled, self.unscaled_parameters())

    @abstractmethod
    def unscaled_parameters(self) -> Iterator[ParameterSpec]:
        """Every parameter, as it is without width scaling; in the order of the network."""

    def _width_scaled(self, spec: ParameterSpec) -> ParameterSpec:
        if not self.is_width_scaled or spec.name in self.class_vectors:
            return spec
        if spec.is_hidden_matrix or spec.name in self.head_matrices:
            assert isinstance(spec.init, Normal)
            init = replace(spec.init, std=spec.init.std * self.width_ratio**-0.5)
            return replace(spec, init=init, matrix_growth=self.width_ratio)
        # The one weight that all heads share grows with the heads' own width.
        of_heads = spec.name.endswith(("q_layernorm.weight", "k_layernorm.weight")) and spec.tensor_partial
        return replace(spec, vector_growth=self.head_ratio if of_heads else self.width_ratio)

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        base = {
            "base_hidden_size": self.base_hidden_size or self.hidden_size,
            "base_head_size": self.base_head_size or self.head_size,
        }
        return super().resolved() | base
