"""The adapter that a checkpoint holds, the model that it stands beside, and both merged, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint, open_checkpoint
from pretrain.config.kinds import NETWORK_METHODS
from pretrain.config.method import ADAPTER, FIRST_FACTOR, SECOND_FACTOR, LowRankMethod
from pretrain.config.model import ModelConfig
from pretrain.config.starting import StartOptions
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape
from pretrain.starting.architecture import check_model
from pretrain.starting.source import StartSource, open_source
from pretrain.starting.start import RECORD_KEY, check_same_weights

if TYPE_CHECKING:
    import torch


class BaseTensors(Mapping[str, "torch.Tensor"]):
    """The whole tensors of the model that an adapter stands beside, by global name, each read when it is asked for.

    Args:
        source: the weights.
        model: of the run, whose vocabulary may be larger.
        options: what was done where the two differ.
        seed: of the run, which drew new rows.
    """

    def __init__(self, source: StartSource, model: ModelConfig, options: StartOptions, seed: int) -> None:
        from pretrain.models.initial_values import InitialValues
        from pretrain.starting.values import StartingValues

        self._specs: dict[str, ParameterSpec] = {spec.name: spec for spec in model.parameters()}
        self._values = StartingValues(source, model, options, InitialValues(seed))

    def __getitem__(self, name: str) -> torch.Tensor:
        import torch

        spec = self._specs[name]
        whole = ShardedShape(name, spec.shape, spec.shape)
        tensor = torch.empty(spec.shape)
        self._values(spec, whole, 0, tensor.numel(), tensor.view(-1))
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


class MergedTensors(Mapping[str, "torch.Tensor"]):
    """The tensors of a model with an adapter added to its matrices.

    Args:
        base: the model.
        adapter: the factors by global name.
        scale: what their product is multiplied by.
    """

    def __init__(self, base: Mapping[str, torch.Tensor], adapter: Mapping[str, torch.Tensor], scale: float) -> None:
        self._base, self._adapter, self._scale = base, adapter, scale

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor, layer = self._base[name], name.removesuffix(".weight")
        if f"{layer}.{ADAPTER}.{FIRST_FACTOR}" not in self._adapter:
            return tensor
        first, second = (self._adapter[f"{layer}.{ADAPTER}.{factor}"] for factor in (FIRST_FACTOR, SECOND_FACTOR))
        return tensor + self._scale * (second @ first)

    def __contains__(self, name: object) -> bool:
        return name in self._base

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


@dataclass(frozen=True)
class AdaptedModel:
    """An adapter and its model.

    Attributes:
        merged: the checkpoint, as though it held the whole model with the adapter merged into it.
        method: rank, scale, layers.
        adapter: the factors by global name.
        base: the model without it.
        source: where the model comes from.
        has_new_ids: whether its vocabulary is larger than that of the source.
    """

    merged: ModelCheckpoint
    method: LowRankMethod
    adapter: Mapping[str, torch.Tensor]
    base: Mapping[str, torch.Tensor]
    source: StartSource
    has_new_ids: bool


def open_adapted(path: Path, base: Path | None = None, *, averaged: bool = False) -> AdaptedModel:
    """The adapter of a checkpoint with the model that it was trained beside.

    Args:
        path: a run, or one of its steps.
        base: where the model lies; None: where it lay when the run began.
        averaged: whether the moving averages of the adapter are meant.

    Raises:
        UserError: the checkpoint is damaged or holds no adapter, or the model is not there, or is another one.
    """
    opened = open_checkpoint(path, averaged=averaged, may_be_adapter=True)
    config: Mapping[str, Any] = opened.metadata.get("config") or {}
    record: Mapping[str, Any] = opened.metadata.get(RECORD_KEY) or {}
    raw = config.get("method") or {}
    declared = NETWORK_METHODS.declaration(str(raw.get("name", NETWORK_METHODS.default)))
    if not issubclass(declared, LowRankMethod):
        raise CheckpointError("holds no adapter", where=opened.path, expected="a run with method.name=lora")
    source = open_source(base or Path(str(record.get("path"))))
    check_same_weights(source, record)
    options = StartOptions.model_validate(config.get("start_from_options") or {})
    check_model(source, opened.model, options)
    method = declared.model_validate(raw)
    tensors = BaseTensors(source, opened.model, options, int(config.get("seed", 0)))
    merged = replace(opened, tensors=MergedTensors(tensors, opened.tensors, method.scale))
    grows = opened.model.vocab_size != source.model.vocab_size
    return AdaptedModel(merged, method, opened.tensors, tensors, source, grows)
