"""What is written beside the tensors: one manifest per part, one over all, every byte of them under a hash.

Reading trusts nothing: JSON only, sizes bounded, every number checked against the file that it points into.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import xxhash

from pretrain.checkpoint.state_shards import BYTES_PER_ELEMENT, Rectangles, as_matrix

FORMAT = "bessemer-checkpoint"
VERSION = 1
MAX_AXES = 8
MAX_ELEMENTS = 1 << 48
MASTER = "master"
"""The state that every parameter has: its fp32 weight."""
STATE_MARK = "@"
"""Between a parameter's name and the name of a state of it that has a shape of its own, such as one per row."""
_STATE = re.compile(r"[A-Za-z_]\w{0,63}")
_PART_FILE = re.compile(r"rank\d{5,9}\.safetensors")
_PART_MANIFEST = re.compile(r"rank\d{5,9}\.json")


class ManifestProblem(ValueError):
    """A manifest that does not describe a checkpoint; the message says where and why."""


def hash_hex(data: bytes | memoryview) -> str:
    """xxh3 of some bytes, 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(data)


@dataclass(frozen=True)
class Entry:
    """One shard of one tensor in a part file.

    Attributes:
        name: global parameter name; with `STATE_MARK` that of a state that has a shape of its own.
        global_shape: shape of the whole parameter.
        rectangles: int64[K, 5], where the shard lies in the global matrix; the last column is the element offset.
        offsets: first byte in the file, per state: the fp32 weight (`master`) and each state of the optimizer.
        hashes: xxh3 of the shard's bytes, per state.
    """

    name: str
    global_shape: tuple[int, ...]
    rectangles: Rectangles
    offsets: dict[str, int]
    hashes: dict[str, str]

    @property
    def elements(self) -> int:
        """Elements of the shard, in each state."""
        return _area(self.rectangles)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the stored tensors: the fp32 weight and the optimizer states."""
        return tuple(self.offsets)


@dataclass(frozen=True)
class Part:
    """What one rank wrote.

    Attributes:
        file: name of the safetensors file.
        file_bytes: its size.
        header_bytes: its length word and header.
        header_hash: xxh3 of those.
        entries: the shards in it.
        replicas: names of tensors that the rank held, in whole or in part, but left to others to write.
    """

    file: str
    file_bytes: int
    header_bytes: int
    header_hash: str
    entries: list[Entry]
    replicas: list[str]

    def encode(self) -> bytes:
        """As JSON."""
        tensors = [
            {
                "name": e.name,
                "global_shape": list(e.global_shape),
                "rectangles": e.rectangles[:, :4].tolist(),
                "offsets": e.offsets,
                "xxh3": e.hashes,
            }
            for e in self.entries
        ]
        return orjson.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "file": self.file,
                "file_bytes": self.file_bytes,
                "header_bytes": self.header_bytes,
                "header_xxh3": self.header_hash,
                "tensors": tensors,
                "replicas": self.replicas,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Part:
        """Read what `encode` wrote.

        Raises:
            ManifestProblem: anything else.
        """
        raw = _load_json(data)
        file = _text(raw, "file")
        if not _PART_FILE.fullmatch(file):
            raise ManifestProblem(f"file is {file!r}")
        size, header = _count(raw, "file_bytes"), _count(raw, "header_bytes")
        if header > size:
            raise ManifestProblem(f"header_bytes {header} of {size}")
        tensors, replicas = raw.get("tensors"), raw.get("replicas")
        if not isinstance(tensors, list) or not isinstance(replicas, list):
            raise ManifestProblem("tensors or replicas is not a list")
        entries = [_decode_entry(item, header, size) for item in tensors]
        return cls(file, size, header, _text(raw, "header_xxh3"), entries, [str(n) for n in replicas])


@dataclass(frozen=True)
class Manifest:
    """The whole checkpoint.

    Attributes:
        step: steps that were trained before it.
        parts: hash of each part manifest, by its file name.
        total_bytes: bytes of all part files.
        metadata: of the run: config, progress, fingerprints.
    """

    step: int
    parts: dict[str, str]
    total_bytes: int
    metadata: dict[str, Any]

    def encode(self) -> bytes:
        """As JSON, with a hash over itself."""
        body = {
            "format": FORMAT,
            "version": VERSION,
            "step": self.step,
            "parts": self.parts,
            "total_bytes": self.total_bytes,
            "metadata": self.metadata,
        }
        return orjson.dumps({"manifest": body, "xxh3": hash_hex(orjson.dumps(body))}, option=orjson.OPT_INDENT_2)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what `encode` wrote.

        Raises:
            ManifestProblem: anything else, or a hash that does not fit.
        """
        outer = _parse(data)
        if not isinstance(outer, dict) or not isinstance(outer.get("manifest"), dict):
            raise ManifestProblem("is not a checkpoint manifest")
        raw = outer["manifest"]
        try:
            found = hash_hex(orjson.dumps(raw))
        except TypeError:
            raise ManifestProblem("is nested too deeply") from None
        if outer.get("xxh3") != found:
            raise ManifestProblem("its content does not match its hash")
        _check_format(raw)
        parts, metadata = raw.get("parts"), raw.get("metadata")
        if not isinstance(parts, dict) or not parts or not isinstance(metadata, dict):
            raise ManifestProblem("parts or metadata is missing")
        for name, value in parts.items():
            if not _PART_MANIFEST.fullmatch(name) or not isinstance(value, str):
                raise ManifestProblem(f"names the part {name!r}")
        return cls(_count(raw, "step"), parts, _count(raw, "total_bytes"), metadata)


def encode_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """`metadata` as it will be read back.

    Raises:
        TypeError: it holds something that JSON cannot.
    """
    return orjson.loads(orjson.dumps(metadata))


def _decode_entry(raw: Any, header_bytes: int, file_bytes: int) -> Entry:
    if not isinstance(raw, dict):
        raise ManifestProblem("an entry of tensors is not a mapping")
    name = _text(raw, "name")
    shape = raw.get("global_shape")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(_is_count(n) for n in shape):
        raise ManifestProblem(f"{name}: global_shape is {str(shape)[:80]}")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ManifestProblem(f"{name}: global_shape {shape} is too large")
    found = _decode_rectangles(name, raw.get("rectangles"), tuple(shape), file_bytes)
    needed = _area(found) * BYTES_PER_ELEMENT
    offsets, hashes = raw.get("offsets"), raw.get("xxh3")
    if not isinstance(offsets, dict) or not isinstance(hashes, dict):
        raise ManifestProblem(f"{name}: offsets or xxh3 is missing")
    if MASTER not in offsets and (STATE_MARK not in name or not offsets):
        raise ManifestProblem(f"{name}: {MASTER} at byte None does not lie in the file")
    for state, offset in offsets.items():
        if not _STATE.fullmatch(state):
            raise ManifestProblem(f"{name}: has a state {state[:40]!r}")
        if (
            not isinstance(offset, int)
            or not header_bytes <= offset <= file_bytes - needed
            or (offset - header_bytes) % BYTES_PER_ELEMENT
        ):
            raise ManifestProblem(f"{name}: {state} at byte {offset!r} does not lie in the file")
        if not isinstance(hashes.get(state), str):
            raise ManifestProblem(f"{name}: {state} has no hash")
    return Entry(name, tuple(shape), found, offsets, hashes)


def _decode_rectangles(name: str, raw: Any, shape: tuple[int, ...], file_bytes: int) -> Rectangles:
    rows, columns = as_matrix(shape)
    try:
        boxes = np.array(raw, dtype=object)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not all(type(n) is int for n in boxes.flat):
            raise ValueError
        boxes = boxes.astype(np.int64)
    except (ValueError, OverflowError):
        raise ManifestProblem(f"{name}: rectangles are {str(raw)[:80]}") from None
    low = (boxes[:, [0, 2]] >= 0).all() and (boxes[:, 0] < boxes[:, 1]).all() and (boxes[:, 2] < boxes[:, 3]).all()
    if not low or (boxes[:, 1] > rows).any() or (boxes[:, 3] > columns).any():
        raise ManifestProblem(f"{name}: rectangles {str(raw)[:80]} do not lie in {shape}")
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    if areas.sum(dtype=np.float64) * BYTES_PER_ELEMENT > file_bytes:
        raise ManifestProblem(f"{name}: rectangles {str(raw)[:80]} hold more than the file")
    offsets = np.cumsum(areas) - areas
    return np.concatenate([boxes, offsets[:, None]], axis=1)


def _area(found: Rectangles) -> int:
    return int(((found[:, 1] - found[:, 0]) * (found[:, 3] - found[:, 2])).sum())


def _load_json(data: bytes) -> dict[str, Any]:
    raw = _parse(data)
    if not isinstance(raw, dict):
        raise ManifestProblem("is not a mapping")
    _check_format(raw)
    return raw


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ManifestProblem(f"is not JSON ({error})") from None


def _check_format(raw: dict[str, Any]) -> None:
    if raw.get("format") != FORMAT or raw.get("version") != VERSION:
        found = f"{str(raw.get('format'))[:40]!r} version {str(raw.get('version'))[:10]}"
        raise ManifestProblem(f"has the format {found}; this version reads {FORMAT!r} version {VERSION}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _count(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key)
    if not _is_count(value):
        raise ManifestProblem(f"{key} is {str(value)[:40]!r}")
    return int(value)  # type: ignore[arg-type]


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise ManifestProblem(f"{key} is {str(value)[:40]!r}")
    return value
