"""Named int64 arrays in one file: memory-mapped, verified when opened, built again when damaged.

A file is a header of 4096 bytes (JSON: what it is of, the arrays' lengths, XXH3-128 of the rest), then the arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash

from data_prep.storage.durable import writing
from data_prep.storage.publishing import staged_file
from pretrain.data.build_lock import built_once

_HEADER_BYTES = 4096
_FORMAT = "bessemer data index 1"
_HASH_CHUNK_BYTES = 16 << 20

Arrays = dict[str, np.ndarray]
Allocate = Callable[[dict[str, int]], Arrays]
Build = Callable[[Allocate], None]
"""Asks once for its arrays by name and length, and fills them."""


def built_in_memory(build: Build) -> Arrays:
    """What `build` makes, in this process' memory."""
    arrays: Arrays = {}

    def allocate(lengths: dict[str, int]) -> Arrays:
        arrays.update({name: np.empty(length, dtype=np.int64) for name, length in lengths.items()})
        return arrays

    build(allocate)
    return arrays


def built_on_disk(path: Path, identity: str, build: Build) -> Arrays:
    """What `build` makes, memory-mapped from `path`; built by one process if it is not there or damaged.

    Args:
        path: the file; its directory is made.
        identity: says what the arrays were made from; a file of another identity is built anew.
        build: fills the arrays.

    Raises:
        MachineError: if the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    arrays = _open(path, identity)
    if arrays is not None:
        return arrays
    found: list[Arrays] = []
    refused: set[tuple[int, int]] = set()

    def is_built() -> bool:
        # A damaged file is hashed once, not at every look.
        version = _version(path)
        if version is None or version in refused:
            return False
        arrays = _open(path, identity)
        if arrays is None:
            refused.add(version)
            return False
        found.append(arrays)
        return True

    with writing(path), built_once(path.with_suffix(".lock"), is_built, str(path)) as is_mine:
        if is_mine:
            _write(path, identity, build)
            found.append(_mapped(path, _read_header(path)["lengths"]))
    return found[-1]


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _write(path: Path, identity: str, build: Build) -> None:
    with staged_file(path) as temporary:
        sizes: dict[str, int] = {}

        def allocate(lengths: dict[str, int]) -> Arrays:
            sizes.update(lengths)
            size_bytes = _HEADER_BYTES + 8 * sum(lengths.values())
            with temporary.open("wb") as stream:
                stream.truncate(size_bytes)
                # Reserved, where the system can: a full disk is then an error here, not a bus error while filling.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, size_bytes)
            return _mapped(temporary, lengths, mode="r+")

        build(allocate)
        header = {"format": _FORMAT, "identity": identity, "lengths": sizes, "xxh3": _hash(temporary)}
        raw = json.dumps(header).encode()
        if len(raw) > _HEADER_BYTES:
            raise ValueError(f"an index header of {len(raw)} bytes does not fit into {_HEADER_BYTES}")
        with temporary.open("r+b") as stream:
            stream.write(raw.ljust(_HEADER_BYTES))


def _open(path: Path, identity: str) -> Arrays | None:
    """The arrays of a whole and undamaged file of this identity, else None."""
    header = _read_header(path)
    if header.get("format") != _FORMAT or header.get("identity") != identity:
        return None
    lengths = header.get("lengths", {})
    if path.stat().st_size != _HEADER_BYTES + 8 * sum(lengths.values()) or _hash(path) != header.get("xxh3"):
        return None
    return _mapped(path, lengths)


def _read_header(path: Path) -> dict:
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.read(_HEADER_BYTES))
    except (FileNotFoundError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _mapped(path: Path, lengths: dict[str, int], mode: str = "r") -> Arrays:
    arrays, offset = {}, _HEADER_BYTES
    for name, length in lengths.items():
        if length:
            mapped = np.memmap(path, dtype="<i8", mode=mode, offset=offset, shape=(length,))  # type: ignore[call-overload]
            # A plain array over the same memory: slicing a memmap object costs microseconds each time.
            arrays[name] = mapped.view(np.ndarray)
        else:
            arrays[name] = np.empty(0, dtype=np.int64)
        offset += 8 * length
    return arrays


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        stream.seek(_HEADER_BYTES)
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
