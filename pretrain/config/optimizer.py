"""The config that all optimizers share: the learning rate and its schedule, weight decay, clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from configs.durations import Duration, Units
from configs.kinds import Named

if TYPE_CHECKING:
    from pretrain.models.parameter_table import ParameterSpec

Extent = Literal["element", "row", "column"]


@dataclass(frozen=True)
class StateSpec:
    """One state that an optimizer keeps of a parameter, and a checkpoint with it.

    Attributes:
        name: in `optimizer.state` and in the checkpoint, such as `exp_avg`.
        extent: what it has a number for: each element of the parameter, each row, or each column of each of the
            matrices that the parameter packs.
    """

    name: str
    extent: Extent = "element"

    def shape(self, spec: ParameterSpec) -> tuple[int, ...]:
        """The shape of this state of the whole parameter `spec`."""
        if self.extent == "element":
            return spec.shape
        rows, columns = spec.shape
        return (rows,) if self.extent == "row" else (max(1, len(spec.row_pattern)), columns)


@dataclass(frozen=True)
class WidthExponents:
    """Powers of the width, relative to the base's, that a learning rate is multiplied by.

    Attributes:
        matrix: of a parameter both of whose axes grow with the width.
        vector: of one that has one such axis.
    """

    matrix: float
    vector: float = 0.0


NORMALIZED = WidthExponents(matrix=-1.0)
"""Of updates whose elements are about as large as the rate, however large the gradient is: row "Adam LR" of table 8."""
DECAYING = ("cosine", "linear", "wsd")
"""Schedules that have a decay."""
OF_ONE_KIND = "all in steps, or all in samples or tokens"
"""What the durations of a schedule have to be."""
AVERAGE = StateSpec("average")
"""The moving average of the weights, which any optimizer can keep beside its own states."""


class OptimizerConfig(Named):
    """An optimizer and its schedule. A subclass declares one kind, with the keys that only it has."""

    states: ClassVar[tuple[StateSpec, ...]] = ()
    """What the optimizer keeps beside the fp32 weights."""
    is_element_wise: ClassVar[bool] = False
    """Whether each weight's update follows from its own value, gradient and states alone.

    The tensors that an optimizer gets are flat, and span parameters or parts of them. One that takes norms, means or
    products of a parameter would train wrongly without an error, unless it declares `takes_parameters`.
    """
    takes_parameters: ClassVar[bool] = False
    """Whether its implementation is a `ParameterOptimizer`, which is told where in the flat tensors each parameter
    lies, and which ranks have the rest of it (LAMB, Adafactor, Muon)."""

    lr: float = Field(gt=0, examples=[3.0e-4])
    """Peak learning rate."""
    min_lr: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the decay."""
    schedule: Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd"] = "cosine"
    """Shape after the warm-up; wsd is warmup-stable-decay."""
    warmup: Annotated[Duration, Units("steps", "samples", "tokens", zero=True)] = Duration(0, "steps")
    """Warm-up before the decay, in steps, samples or tokens."""
    warmup_shape: Literal["linear", "constant"] = "linear"
    """How it goes: linearly from 0 to `lr`; or `lr` from the first step on, as T5 did before its 1/sqrt(step)."""
    decay: Annotated[Duration, Units("steps", "samples", "tokens")] | None = None
    """Length of the decay: null means up to the end of the run (wsd: its last tenth)."""
    wsd_decay: Literal["linear", "sqrt"] = "linear"
    """Shape of wsd's decay: `sqrt` falls with the square root of the time (1-sqrt; Haegele et al. 2024, section 3)."""
    restart_at: Annotated[Duration, Units("steps", "samples", "tokens")] | None = None
    """Place from which on warm-up and decay are counted as though the run began there, such as the old end of one that
    is extended; before it the rate is that of a run that ends there. null: there is one schedule."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices and embeddings; norms and biases get none."""
    final_weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay at the end of the run, which it reaches as `weight_decay_schedule` says; null: it stays."""
    weight_decay_schedule: Literal["linear", "cosine"] = "linear"
    """Shape of the way from `weight_decay` to `final_weight_decay`."""
    clip_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this global norm; 0: never."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each layer as a share of that of the layer above it, whose last one has `lr`; embeddings come
    below the first layer (layer-wise decay; Clark et al. 2020, appendix B)."""
    embedding_gradient: float = Field(default=1.0, gt=0, le=1)
    """What the gradient is multiplied by that looked-up tokens pass to their embedding; GLM-130B has 0.1 (Zeng et al.
    2023, section 3.1)."""
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is kept in checkpoints and can be exported;
    null: none is kept."""

    def problems(self) -> list[str]:
        """Why no run can use this optimizer, a sentence each; empty if it can."""
        found = self._schedule_problems()
        if not self.is_element_wise and not self.takes_parameters:
            found.append(
                f"optimizer.name={self.name} does not declare that its updates are element-wise, and sharding hands an"
                " optimizer flat tensors that span parameters; expected is_element_wise = True in its declaration"
                f" ({type(self).__name__}), if each weight's update follows from its own value, gradient and states"
                " alone, or takes_parameters = True and an implementation on ParameterOptimizer"
            )
        return found

    def _schedule_problems(self) -> list[str]:
        found = []
        if self.wsd_decay != "linear" and self.schedule != "wsd":
            found.append(
                f"optimizer.wsd_decay is {self.wsd_decay}, and optimizer.schedule is {self.schedule}; expected linear,"
                " or optimizer.schedule=wsd"
            )
        if self.weight_decay_schedule != "linear" and self.final_weight_decay is None:
            found.append(
                f"optimizer.weight_decay_schedule is {self.weight_decay_schedule}, and optimizer.final_weight_decay is"
                " null: the decay stays; expected linear, or a final_weight_decay"
            )
        return found + self._warmup_problems() + self._duration_problems()

    def _warmup_problems(self) -> list[str]:
        found, decays = [], self.schedule != "constant"
        if self.warmup_shape == "constant" and not (self.warmup.value and decays):
            without = f"optimizer.warmup is {self.warmup}" if decays else "optimizer.schedule is constant"
            found.append(
                f"optimizer.warmup_shape is constant, and {without}: it holds the rate before a decay; expected linear,"
                f" or {'a warm-up' if decays else 'another schedule'}"
            )
        if self.restart_at is not None and not (self.warmup.value or decays):
            found.append(
                f"optimizer.restart_at is {self.restart_at}, and there is nothing to restart: the rate is constant and"
                " optimizer.warmup is 0; expected null, a warm-up, or another schedule"
            )
        return found

    def _duration_problems(self) -> list[str]:
        if self.decay is not None and self.schedule not in DECAYING:
            return [
                f"optimizer.decay is {self.decay}, and optimizer.schedule={self.schedule} has no decay of its own;"
                f" expected null, or one of the schedules {', '.join(DECAYING)}"
            ]
        given = self.schedule_durations()
        if len({duration.unit == "steps" for duration in given.values()}) < 2:
            return []
        told = " and ".join(f"{key} is {duration}" for key, duration in given.items())
        return [f"{told}; expected {OF_ONE_KIND}"]

    def schedule_durations(self) -> dict[str, Duration]:
        """The durations that say when the learning rate changes, by key; they are all in steps, or none is."""
        given = {"warmup": self.warmup, "decay": self.decay, "restart_at": self.restart_at}
        return {f"optimizer.{key}": duration for key, duration in given.items() if duration and duration.value}

    def states_of(self, spec: ParameterSpec) -> tuple[StateSpec, ...]:
        """What is kept of one parameter of the table: `states`, unless a kind treats parameters differently."""
        return self.states

    def kept_of(self, spec: ParameterSpec) -> tuple[StateSpec, ...]:
        """All that is kept of a parameter: the kind's states, and the average of the weight where one is kept."""
        return self.states_of(spec) if self.average_decay is None else (*self.states_of(spec), AVERAGE)

    def lr_scale(self, spec: ParameterSpec, num_layers: int) -> float:
        """What the learning rate of a parameter is multiplied by.

        Args:
            spec: the parameter.
            num_layers: of the model.
        """
        scale = self.width_rate(spec)
        if self.layer_decay == 1.0 or spec.holder == "last":
            return scale
        above = num_layers - 1 - spec.holder if isinstance(spec.holder, int) else num_layers
        return scale * self.layer_decay**above

    def width_rate(self, spec: ParameterSpec) -> float:
        """What the learning rate of a parameter is multiplied by, since the model is wider than its base."""
        if spec.matrix_growth == spec.vector_growth == 1.0:
            return 1.0
        exponents = self.width_exponents(spec)
        return spec.matrix_growth**exponents.matrix * spec.vector_growth**exponents.vector

    def width_exponents(self, spec: ParameterSpec) -> WidthExponents:
        """How the rate of a parameter goes with the width; only a kind that says it trains models with a base width.

        See `pretrain.models.width_scaling`. The product of rate and weight decay stays that of the base.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rates by width")

    @property
    def width_obstacle(self) -> str | None:
        """Why no model with a base width is trained so, the end of a sentence; None: `width_exponents` gives rates."""
        if type(self).width_exponents is not OptimizerConfig.width_exponents:
            return None
        return "does not say how its learning rates go with the width"

    def states_per_weight(self, trained: Iterable[ParameterSpec]) -> float:
        """Numbers that are kept beside each fp32 weight, on the average of the parameters that are trained."""
        weights = kept = 0
        for spec in trained:
            weights += spec.elements
            kept += sum(math.prod(state.shape(spec)) for state in self.kept_of(spec))
        return kept / weights if weights else 0.0

    def layout_problems(self, sizes: Mapping[str, int], *, zero_stage: int) -> list[str]:
        """Why this optimizer cannot be sharded so, a sentence each.

        Args:
            sizes: of the parallel axes by name, such as {"tensor": 2, "pipeline": 1, "data": 4}.
            zero_stage: what data-parallel ranks shard: states from 1 on, gradients from 2 on, weights at 3.
        """
        return []

    @model_validator(mode="after")
    def _ordered(self) -> OptimizerConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self
