"""The safetensors files of an exported model: written as the tensors come, read back and compared with their source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import CheckpointError
from pretrain.models.huggingface.transformers_model import save_weights

if TYPE_CHECKING:
    import torch

_INDEX = "model.safetensors.index.json"


def write_weights(tensors: Iterable[tuple[str, torch.Tensor]], folder: Path, max_shard_gb: float) -> list[str]:
    """Files of bounded size, written as the tensors come, and the index that transformers wants.

    Returns:
        names of the tensors.
    """
    limit = int(max_shard_gb * 1e9)
    shards: list[list[str]] = []
    pending: dict[str, torch.Tensor] = {}
    total_bytes = 0

    def flush() -> None:
        save_weights(pending, folder / _shard_name(len(shards), None))
        shards.append(list(pending))
        pending.clear()

    for name, tensor in tensors:
        if pending and _bytes(pending.values()) + _bytes([tensor]) > limit:
            flush()
        pending[name] = tensor
        total_bytes += _bytes([tensor])
    flush()
    if len(shards) == 1:
        (folder / _shard_name(0, None)).rename(folder / "model.safetensors")
        return shards[0]
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = _shard_name(number, len(shards))
        (folder / _shard_name(number, None)).rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    return list(weight_map)


def check_written(tensors: Iterable[tuple[str, torch.Tensor]], folder: Path) -> int:
    """Read back what was written and compare it, bit for bit; returns how many tensors there are.

    Args:
        tensors: what should be there, all of it.
        folder: where `write_weights` wrote it.

    Raises:
        CheckpointError: a tensor is missing, left over, or not what it should be.
    """
    written = dict(_read(folder))
    count = 0
    for name, tensor in tensors:
        found = written.pop(name, None)
        if found is None or not _is_same(found(), tensor):
            what = "is not in the files that were written" if found is None else "was not written as it is"
            raise CheckpointError(f"the tensor {name} {what}; nothing is exported", where=folder)
        count += 1
    if written:
        raise CheckpointError(f"the files hold {next(iter(written))}, which the model does not have", where=folder)
    return count


def remove_weights(folder: Path) -> None:
    """Take away what `write_weights` wrote."""
    for file in [*folder.glob("*.safetensors"), folder / _INDEX]:
        file.unlink(missing_ok=True)


class _Stored:
    """One tensor of a file, read when it is asked for."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def __call__(self) -> torch.Tensor:
        from safetensors import safe_open

        with safe_open(self._path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(self._name)
            return tensor


def _read(folder: Path) -> Iterator[tuple[str, _Stored]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        yield from ((name, _Stored(path, name)) for name in names)


def _is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal in type, shape and every bit, so that what is not a number equals itself."""
    import torch

    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (found, expected)]
    return torch.equal(*bits)


def _shard_name(number: int, count: int | None) -> str:
    return f"model-{number + 1:05d}-of-{count or 0:05d}.safetensors"


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
