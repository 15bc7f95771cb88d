"""Where fine-tuning and export start: a checkpoint of any layout, its model config and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.errors import CheckpointError, DataError
from configs.kinds import comes_with
from data_prep.tokenizer import Tokenizer, is_tokenizer, load_tokenizer
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.config.kinds import FAMILIES
from pretrain.config.model import ModelConfig

if TYPE_CHECKING:
    import torch


class CheckpointTensors(Mapping[str, "torch.Tensor"]):
    """The weights of a checkpoint by global name, each read (and verified) when it is asked for."""

    def __init__(self, reader: CheckpointReader) -> None:
        self._reader = reader
        self._names = frozenset(reader.names())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._reader.tensor(name)

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


def open_checkpoint(path: Path) -> ModelCheckpoint:
    """The checkpoint that `path` (a run, or one of its steps) means.

    Raises:
        CheckpointError: there is none, it is damaged, or it does not say what model it holds.
    """
    reader = CheckpointReader(path)
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
    return ModelCheckpoint(reader.path, model, CheckpointTensors(reader), metadata)


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


def find_tokenizer(source: ModelCheckpoint, override: Path | None = None) -> Tokenizer:
    """The tokenizer that a run used: `override`, the run's copy, or the one in its configured places.

    Raises:
        DataError: there is none, or it is not the one that the model was trained with.
    """
    candidates = [override] if override is not None else _tokenizer_places(source)
    found = next((place for place in candidates if override is not None or is_tokenizer(place)), None)
    if found is None:
        looked = ", ".join(str(place) for place in candidates)
        raise DataError(
            "the tokenizer of this checkpoint is not there any more",
            where=source.path,
            expected=f"one of {looked}; or name its directory (tokenizer_dir=...)",
        )
    tokenizer = load_tokenizer(found)
    check_fits(tokenizer, found, source)
    return tokenizer


def check_fits(tokenizer: Tokenizer, place: Path, source: ModelCheckpoint) -> None:
    """Refuse a tokenizer that is not the one of the checkpoint.

    Raises:
        DataError: another fingerprint, or more ids than the model knows.
    """
    expected = source.metadata.get("tokenizer_fingerprint")
    if expected is not None and tokenizer.fingerprint != expected:
        raise DataError(
            f"has the fingerprint {tokenizer.fingerprint}: it is not the tokenizer that the model was trained with",
            where=place,
            expected=f"{expected}, as {source.path} says",
        )
    known = source.model.vocab_size
    if known is not None and tokenizer.vocab_size > known:
        raise DataError(
            f"has {tokenizer.vocab_size} ids", where=place, expected=f"at most {known}, the model's vocabulary"
        )


def _tokenizer_places(source: ModelCheckpoint) -> list[Path]:
    places = [source.path.parent.parent / "tokenizer"]
    data = (source.metadata.get("config") or {}).get("data") or {}
    if data.get("tokenizer"):
        places.append(Path(data["tokenizer"]))
    for item in data.get("train") or []:
        if isinstance(item, dict) and item.get("corpus"):
            places.append(Path(item["corpus"]) / "tokenizer")
    return places
