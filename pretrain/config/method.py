"""How a run trains its network: all weights, or low-rank factors beside frozen ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from configs.errors import nearest
from configs.kinds import Named
from configs.section import Section
from pretrain.config.model import ModelConfig
from pretrain.config.optimizer import OptimizerConfig
from pretrain.models.parameter_table import Constant, Normal, ParameterSpec

ADAPTER = "adapter"
"""Name of the module beside a layer, and so a part of the names of its factors."""
FIRST_FACTOR, SECOND_FACTOR = "lora_A", "lora_B"
"""Names of the factors that read the layer's input, and that write to its output."""


class NetworkMethod(Named):
    """How a network is trained on the engine of pretraining. A subclass declares one method."""

    freezes: ClassVar[bool] = False
    """Whether the model's own weights stay as they are: they are read from `start_from` at each start."""

    def trained_parameters(self, model: ModelConfig) -> Iterator[ParameterSpec]:
        """What the optimizer updates, and a checkpoint holds: the model's own parameters, or those of an adapter."""
        return model.parameters()

    def flops_per_token(self, model: ModelConfig) -> float:
        """Floating-point operations that one trained token needs; see `ModelConfig.flops_per_token`."""
        return model.flops_per_token()

    def problems(self, model: ModelConfig, optimizer: OptimizerConfig, start_from: Path | None) -> list[str]:
        """Which settings of a run contradict the method, a sentence each.

        Args:
            model: the network.
            optimizer: the optimizer and its schedule.
            start_from: where the first weights are from.
        """
        return []


class WholeNetwork(NetworkMethod):
    """All weights."""

    name: str = "full"
    """Which method it is."""


class LowRankFields(Section):
    """What every LoRA can be told: the product of two thin matrices beside each chosen one (Hu et al. 2021)."""

    r: int = Field(default=8, gt=0)
    """Rank of the product."""
    alpha: float = Field(default=16.0, gt=0)
    """The product is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Rate of dropout before the product."""
    rslora: bool = False
    """Whether it is scaled by alpha / sqrt(r) instead (Kalajdzievski 2023)."""

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (self.r**0.5 if self.rslora else self.r)


class LowRankMethod(LowRankFields, NetworkMethod):
    """LoRA beside layers of the model as pretraining has it, in every layout."""

    implementation: ClassVar[str] = "pretrain.models.low_rank:LowRankAdapters"
    freezes: ClassVar[bool] = True

    name: str = "lora"
    """Which method it is."""
    target_modules: Literal["auto", "all-linear"] | list[str] = "auto"
    """Layers that it stands beside, by the names that pretraining has for them: `linear_qkv` (queries, keys, values),
    `linear_proj` (after the attention), `linear_fc1` (gate and up), `linear_fc2` (down); auto and all-linear: all."""

    def targets(self, model: ModelConfig) -> tuple[str, ...]:
        """Names of the layers that have an adapter, in the order of the network."""
        if isinstance(self.target_modules, str):
            return model.adaptable
        return tuple(name for name in model.adaptable if name in self.target_modules)

    def trained_parameters(self, model: ModelConfig) -> Iterator[ParameterSpec]:
        """See the base class: two factors for each chosen matrix.

        The factor that meets the cut axis of the matrix is cut with it. The other is whole on each tensor rank, and of
        its gradient only a part is there where the sequence is split.
        """
        chosen = self.targets(model)
        for spec in model.parameters():
            layer, _, part = spec.name.rpartition(".")
            if part != "weight" or layer.rpartition(".")[2] not in chosen:
                continue
            (rows, columns), cuts_rows = spec.shape, spec.tensor_axis == 0
            # As wide as the uniform one of peft (and of torch's linear layers), by standard deviation.
            drawn = Normal((3 * columns) ** -0.5)
            yield ParameterSpec(
                f"{layer}.{ADAPTER}.{FIRST_FACTOR}",
                (self.r, columns),
                spec.holder,
                drawn,
                tensor_axis=None if cuts_rows else 1,
                sequence_partial=cuts_rows,
            )
            yield ParameterSpec(
                f"{layer}.{ADAPTER}.{SECOND_FACTOR}",
                (rows, self.r),
                spec.holder,
                Constant(0.0),
                tensor_axis=0 if cuts_rows else None,
                blocks=spec.blocks,
                sequence_partial=not cuts_rows,
                row_pattern=spec.row_pattern,
            )

    def flops_per_token(self, model: ModelConfig) -> float:
        """See the base class: a frozen weight has no gradient, so that two of its three products are left."""
        attention = model.attention_flops_per_token()
        own = 6 * sum(spec.elements for spec in self.trained_parameters(model))
        return (model.flops_per_token() - attention) * 2 / 3 + attention + own

    def problems(self, model: ModelConfig, optimizer: OptimizerConfig, start_from: Path | None) -> list[str]:
        """See the base class."""
        told, found = f"method.name is {self.name}", []
        if not model.adaptable:
            return [
                f"{told}, and model.name={model.name} does not say which of its layers adapters can stand beside;"
                " expected model.name=gpt, or method.name=full"
            ]
        found += self._target_problems(model.adaptable, model.name)
        if start_from is None:
            found.append(f"{told}, and start_from is null: its frozen weights would be drawn; expected a model")
        if model.is_width_scaled:
            found.append(
                f"{told}, and model.base_hidden_size is set: no rule says how the rates of an adapter go with the"
                " width; expected null"
            )
        for key, value in {
            "optimizer.layer_decay": optimizer.layer_decay,
            "optimizer.embedding_gradient": optimizer.embedding_gradient,
        }.items():
            if value != 1.0:
                found.append(f"{told}, which freezes all of the model's weights, and {key} is {value}; expected 1.0")
        return found

    def _target_problems(self, adaptable: Iterable[str], family: str) -> list[str]:
        if isinstance(self.target_modules, str):
            return []
        known = list(adaptable)
        if not self.target_modules:
            return [f"method.target_modules is empty; expected some of {', '.join(known)}"]
        found = []
        for name in self.target_modules:
            if name not in known:
                close = nearest(name, known)
                hint = f"; did you mean {close}?" if close else ""
                found.append(
                    f"method.target_modules names {name}, and model.name={family} has no such layer as pretraining"
                    f" builds it; expected some of {', '.join(known)}{hint}"
                )
        return found
