"""What a parameter is, wherever it is asked: the rows of a family's table. No torch, so that a config can read it.

The name of a parameter is its name in the module of a single process, with layers numbered over the whole model, so
it is the same in every layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal


@dataclass(frozen=True)
class Normal:
    """Initial values are drawn from a normal distribution around 0.

    Attributes:
        std: of the distribution.
        cutoff: values beyond so many `std` are drawn again; None: none are.
    """

    std: float
    cutoff: float | None = None


@dataclass(frozen=True)
class NormalByRows(Normal):
    """As `Normal`, but equal runs of rows have standard deviations of their own, one after the other, again and again.

    Attributes:
        run_rows: rows in a run.
        run_stds: of the runs; then the first comes again. `std` is not looked at.
    """

    run_rows: int = 1
    run_stds: tuple[float, ...] = ()

    def std_of_row(self, row: int) -> float:
        """Standard deviation of row `row`."""
        return self.run_stds[row // self.run_rows % len(self.run_stds)]


@dataclass(frozen=True)
class Constant:
    """Initial values are all the same."""

    value: float


class Use(Enum):
    """How often a parameter takes part in the forward pass, for the count of floating-point operations."""

    EACH_TOKEN = "each token"
    LOOKED_UP = "looked up"
    EACH_SAMPLE = "once per sample"


Holder = int | Literal["first", "last", "ends"]
"""Which pipeline stages have a parameter: that of a layer (its number), the first, the last, or (tied) both ends."""


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of the whole model.

    Attributes:
        name: global name, such as `decoder.layers.3.mlp.linear_fc1.weight`.
        shape: of the whole parameter.
        holder: which stages have it.
        init: initial values.
        tensor_axis: axis that tensor-parallel ranks cut (0 or 1); None: each rank has all of it.
        blocks: equal parts along axis 0 that are each cut over the tensor ranks: 2 for a gated fc1 `[gate; up]`.
        decays: whether weight decay applies.
        sequence_partial: whether, under sequence parallelism, each tensor rank has only a part of its gradient.
        tensor_partial: whether each tensor rank has only a part of its gradient in any case: it stands within the
            attention, whose heads are cut.
        use: how often it takes part in the forward pass.
        local_names: names that a stage's module may have for it beside the global one (a tied output layer's).
        row_pattern: of a weight that packs several matrices along axis 0, how many rows of each follow each other; the
            pattern repeats. (queries, keys, values) of one group for a packed qkv, (gate, up) for a gated fc1; empty:
            it is one matrix. Optimizers that look at matrices look at each of them.
        matrix_growth: of a matrix of which both axes grow with the model's width, how many times as wide it is as in
            the base model (see `width_scaling`); 1 of all else, and without a base.
        vector_growth: the same of what has one such axis: embeddings, the output layer, norms, biases.
    """

    name: str
    shape: tuple[int, ...]
    holder: Holder
    init: Normal | Constant
    tensor_axis: int | None = None
    blocks: int = 1
    decays: bool = True
    sequence_partial: bool = False
    tensor_partial: bool = False
    use: Use = Use.EACH_TOKEN
    local_names: tuple[str, ...] = ()
    row_pattern: tuple[int, ...] = ()
    matrix_growth: float = 1.0
    vector_growth: float = 1.0

    @property
    def elements(self) -> int:
        """Elements of the whole parameter."""
        return math.prod(self.shape)

    @property
    def is_hidden_matrix(self) -> bool:
        """Whether it is a matrix of a layer: no embedding, no head, no norm or bias."""
        return isinstance(self.holder, int) and len(self.shape) == 2

    @property
    def is_tied(self) -> bool:
        """Whether the first and the last stage each have a copy, whose gradients are summed."""
        return self.holder == "ends"

    def is_held_by(self, stage: int, num_stages: int, num_layers: int) -> bool:
        """Whether pipeline stage `stage` of `num_stages` has it; layers are cut evenly."""
        first, last = stage == 0, stage == num_stages - 1
        if num_stages == 1:
            return True
        if isinstance(self.holder, int):
            return self.holder * num_stages // num_layers == stage
        return {"first": first, "last": last, "ends": first or last}[self.holder]

    def local_shape(self, tensor_size: int) -> tuple[int, ...]:
        """Shape of one tensor rank's shard."""
        return tuple(n // tensor_size if axis == self.tensor_axis else n for axis, n in enumerate(self.shape))
