"""The safetensors of a local model directory: names and shapes from the headers, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import DataError

if TYPE_CHECKING:
    import torch

INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
_BLOCK_BYTES = 1 << 24
READABLE = {"F32": 4, "BF16": 2, "F16": 2}
"""Bytes of an element of each type that is read."""
_ORIGINAL = {"weight": "gamma", "bias": "beta"}
"""What the first BERT called the parameters of its norms; transformers reads these names, too."""


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: as its header says it, such as `BF16`.
        shape: of the tensor.
        start: first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class SafetensorsDirectory(Mapping[str, "torch.Tensor"]):
    """The tensors of a directory by name, each read, as fp32, when it is asked for.

    Args:
        directory: a Hugging Face model directory.

    Raises:
        DataError: no safetensors, or files that are missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.stored: dict[str, StoredTensor] = {}
        for file in _files(directory):
            for name, stored in _header(file).items():
                if name in self.stored:
                    raise DataError(f"holds {name}, which {self.stored[name].file.name} holds, too", where=file)
                self.stored[name] = stored

    def __getitem__(self, name: str) -> torch.Tensor:
        import numpy as np
        import torch

        stored = self.stored[name]
        dtype = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[stored.dtype]
        count = math.prod(stored.shape)
        # Read, not mapped: the pages of a map would count as memory of the process for as long as it lives.
        memory = np.empty(count * READABLE[stored.dtype], dtype=np.uint8)
        with stored.file.open("rb", buffering=0) as file:
            file.seek(stored.start)
            view, filled = memory.data, 0
            while filled < len(view):
                read = file.readinto(view[filled:])
                if not read:
                    raise DataError(f"ends within {name}", where=stored.file)
                filled += read
        return torch.from_numpy(memory).view(dtype).view(stored.shape).float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def find(self, name: str) -> str | None:
        """The name under which a class' tensor `name` is stored: its own, without the body's, or in BERT's spelling."""
        _, _, without_body = name.partition(".")
        stem, _, part = name.rpartition(".")
        original = f"{stem}.{_ORIGINAL[part]}" if part in _ORIGINAL else name
        return next((found for found in (name, without_body, original) if found in self.stored), None)

    def content_hash(self) -> str:
        """xxh3 of the bytes of all files, which are read whole.

        Raises:
            DataError: one cannot be read.
        """
        import xxhash

        digest = xxhash.xxh3_64()
        for file in sorted({stored.file for stored in self.stored.values()}):
            try:
                with file.open("rb", buffering=0) as opened:
                    while block := opened.read(_BLOCK_BYTES):
                        digest.update(block)
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})", where=file) from None
        return digest.hexdigest()


def _files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if index.is_file():
        try:
            named = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise DataError("is damaged", where=index, expected="a weight_map of tensors to files") from None
        files = [directory / str(name) for name in named]
        if missing := next((file for file in files if not file.is_file()), None):
            raise DataError(f"is missing, which {INDEX} names", where=missing)
        return files
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        others = ", ".join(sorted(p.name for p in directory.glob("*.bin"))[:2])
        raise DataError(
            "holds no safetensors" + (f", but {others}, and pickled weights are never read" if others else ""),
            where=directory,
            expected="model.safetensors, or several and their index",
        )
    return files


def _header(file: Path) -> dict[str, StoredTensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError
            raw = json.loads(opened.read(length))
        found = {}
        for name, entry in raw.items():
            if name == "__metadata__":
                continue
            start, stop = (8 + length + int(offset) for offset in entry["data_offsets"])
            shape, dtype = tuple(int(n) for n in entry["shape"]), str(entry["dtype"])
            if stop > size or (dtype in READABLE and stop - start != math.prod(shape) * READABLE[dtype]):
                raise ValueError
            found[name] = StoredTensor(file, dtype, shape, start)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise DataError("is damaged, or no safetensors file", where=file) from None
    return found
