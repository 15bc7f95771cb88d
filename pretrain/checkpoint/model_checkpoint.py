"""A checkpoint of any layout with the model that its weights belong to: how fine-tuning and export begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.errors import CheckpointError
from configs.kinds import comes_with
from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.config.kinds import FAMILIES, NETWORK_METHODS
from pretrain.config.model import ModelConfig
from pretrain.config.optimizer import AVERAGE

if TYPE_CHECKING:
    import torch


class CheckpointTensors(Mapping[str, "torch.Tensor"]):
    """The weights of a checkpoint by global name, each read (and verified) when it is asked for."""

    def __init__(self, reader: CheckpointReader, state: str = MASTER) -> None:
        self._reader, self._state = reader, state
        self._names = frozenset(reader.names())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._reader.tensor(name, self._state)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class ModelCheckpoint:
    """A checkpoint that can be read.

    Attributes:
        path: its `step_...` directory.
        model: what the weights belong to; `vocab_size` is known.
        tensors: global name -> fp32 weight.
        metadata: what the run remembered.
    """

    path: Path
    model: ModelConfig
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, Any]


def holds_adapter(metadata: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds an adapter beside a model that is elsewhere, and no whole model."""
    method = (metadata.get("config") or {}).get("method") or {}
    return bool(method) and str(method.get("name", NETWORK_METHODS.default)) != NETWORK_METHODS.default


def open_checkpoint(path: Path, *, averaged: bool = False, may_be_adapter: bool = False) -> ModelCheckpoint:
    """The checkpoint that `path` (a run, or one of its steps) means.

    Args:
        path: of it.
        averaged: whether the tensors are the moving averages of the weights, not the weights.
        may_be_adapter: whether it may hold an adapter; the tensors are then those of the adapter alone.

    Raises:
        CheckpointError: there is none, it is damaged, it does not say what model it holds, it keeps no averages, or it
            holds an adapter alone.
    """
    reader = CheckpointReader(path)
    if not may_be_adapter and holds_adapter(reader.metadata):
        raise CheckpointError(
            "holds an adapter, and not the model that it stands beside",
            where=reader.path,
            expected=f"the merged model: python -m finetune export --model {run_directory(reader.path)} --output MODEL",
        )
    names = reader.names()
    if averaged and names and AVERAGE.name not in reader.states(names[0]):
        raise CheckpointError(
            "keeps no averages of the weights", where=reader.path, expected="a run with optimizer.average_decay"
        )
    metadata = reader.metadata
    saved = metadata.get("model")
    if not isinstance(saved, dict):
        raise CheckpointError("does not say what model it holds", where=reader.path, expected="metadata with 'model'")
    objective = (metadata.get("config") or {}).get("objective") or {}
    for kind in (saved, objective):
        if comes_with(str(kind.get("name", "")), run_directory(reader.path)):
            raise CheckpointError(
                f"names {kind['name']!r}, whose module lies in the run's directory and is not run",
                where=reader.path,
                expected="a module that was installed apart from the run",
            )
    try:
        model = _declared(saved)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"model.{key} in its metadata: {first['msg']}", where=reader.path) from None
    except ValueError as error:
        raise CheckpointError(f"model.name in its metadata: {error}", where=reader.path) from None
    if model.vocab_size is None:
        raise CheckpointError("does not say how many token ids its model knows", where=reader.path)
    state = AVERAGE.name if averaged else MASTER
    return ModelCheckpoint(reader.path, model, CheckpointTensors(reader, state), metadata)


def run_directory(step: Path) -> Path:
    """The run that one of its checkpoints lies in; a checkpoint that lies by itself is its own."""
    return step.parent.parent if step.parent.name == "checkpoints" else step


def _declared(saved: Mapping[str, Any]) -> ModelConfig:
    """The model that a checkpoint's metadata describe; runs from before families had names are of the default one.

    Raises:
        ValueError: there is no such family, or the metadata do not fit it.
    """
    name = str(saved.get("name", FAMILIES.default))
    declaration = FAMILIES.declaration(name)
    if not issubclass(declaration, ModelConfig):
        raise ValueError(f"{name} is not a model family")
    known = {key: saved[key] for key in declaration.model_fields if key in saved}
    return declaration.model_validate(known | {"name": name})
