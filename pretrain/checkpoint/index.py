"""Where every element of every tensor lies in the files of one checkpoint, and how to get it from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import CheckpointError
from pretrain.checkpoint.directory import MANIFEST
from pretrain.checkpoint.manifest import Entry, Manifest, ManifestProblem, Part, hash_hex
from pretrain.checkpoint.part_files import CHUNK_BYTES, PartFiles
from pretrain.checkpoint.state_shards import BYTES_PER_ELEMENT, Rectangles, tiles_exactly

_MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True)
class Source:
    """All stored shards of one tensor.

    Attributes:
        shape: global shape.
        rectangles: int64[K, 5] over all shards; the last column is the element offset within the shard.
        shard_of: int64[K], which of `shards` each rectangle belongs to.
        shards: the shards, each with the number of its part.
    """

    shape: tuple[int, ...]
    rectangles: Rectangles
    shard_of: npt.NDArray[np.int64]
    shards: list[tuple[int, Entry]]

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the stored tensors, the same in all shards: the fp32 weight and the optimizer states."""
        return self.shards[0][1].states


def join_parts(parts: list[Part]) -> dict[str, Source]:
    """The shards of all parts, by tensor.

    Raises:
        ManifestProblem: a tensor is not covered exactly once, or parts disagree about its shape.
    """
    shards: dict[str, list[tuple[int, Entry]]] = {}
    for number, part in enumerate(parts):
        for entry in part.entries:
            shards.setdefault(entry.name, []).append((number, entry))
    if unwritten := sorted({name for part in parts for name in part.replicas} - set(shards)):
        raise ManifestProblem(f"{unwritten[0]}: no part holds it, though ranks did")
    sources = {}
    for name, found in shards.items():
        shape = found[0][1].global_shape
        if any(entry.global_shape != shape for _, entry in found):
            raise ManifestProblem(f"{name}: parts disagree about its shape")
        if any(set(entry.states) != set(found[0][1].states) for _, entry in found):
            raise ManifestProblem(f"{name}: parts disagree about its states")
        boxes = np.concatenate([entry.rectangles for _, entry in found])
        if not tiles_exactly(boxes, shape):
            raise ManifestProblem(f"{name}: the parts do not hold every element of {list(shape)} exactly once")
        counts = [len(entry.rectangles) for _, entry in found]
        sources[name] = Source(shape, boxes, np.repeat(np.arange(len(found)), counts), found)
    return sources


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint at `path`.

    Raises:
        ManifestProblem: it is missing, unreadable or damaged; names it.
    """
    return decode_manifest(read_manifest_bytes(path))


def read_manifest_bytes(path: Path) -> bytes:
    """The manifest of the checkpoint at `path`, not decoded.

    Raises:
        ManifestProblem: it is missing or unreadable; names it.
    """
    return _read(path, MANIFEST)


def decode_manifest(data: bytes) -> Manifest:
    """`Manifest.decode`, with the file's name in the problem."""
    try:
        return Manifest.decode(data)
    except ManifestProblem as problem:
        raise ManifestProblem(f"{MANIFEST}: {problem}") from None


def read_part_manifest(path: Path, name: str) -> bytes:
    """The bytes of one part manifest.

    Raises:
        ManifestProblem: it is missing or unreadable; names it.
    """
    return _read(path, name)


def decode_parts(manifest: Manifest, raw: dict[str, bytes]) -> list[Part]:
    """Check each part manifest against its hash, and read it.

    Args:
        manifest: what names them.
        raw: the bytes of each, by file name.

    Raises:
        ManifestProblem: one is damaged; names it.
    """
    parts = []
    for name, expected in manifest.parts.items():
        if hash_hex(raw[name]) != expected:
            raise ManifestProblem(f"{name}: was changed (its hash does not match)")
        try:
            parts.append(Part.decode(raw[name]))
        except ManifestProblem as problem:
            raise ManifestProblem(f"{name}: {problem}") from None
    return parts


class Index:
    """One checkpoint, known to name every element of every tensor exactly once.

    Args:
        path: the checkpoint.
        manifest: its manifest.
        parts: its parts, in the manifest's order.

    Raises:
        ManifestProblem: the parts do not fit together.
    """

    def __init__(self, path: Path, manifest: Manifest, parts: list[Part]) -> None:
        self.path = path
        self.manifest = manifest
        self.parts = parts
        self.sources = join_parts(parts)
        self.files = PartFiles(path, parts)

    @classmethod
    def open(cls, path: Path) -> Index:
        """Read all manifests in this one process.

        Raises:
            ManifestProblem: one of them is missing or damaged.
        """
        manifest = read_manifest(path)
        raw = {name: read_part_manifest(path, name) for name in manifest.parts}
        return cls(path, manifest, decode_parts(manifest, raw))

    def find_missing(self) -> list[str]:
        """Part files that are gone or cut off, a line each; looks at sizes alone."""
        found = []
        for part in self.parts:
            file = self.path / part.file
            size = file.stat().st_size if file.is_file() else None
            if size is None:
                found.append(f"{part.file}: is missing")
            elif size != part.file_bytes:
                found.append(f"{part.file}: holds {size} bytes; {part.file_bytes} were written")
        return found

    def find_damage(self, number: int, take: Callable[[int, Entry, str], str | None] | None = None) -> list[str]:
        """Read one part file and compare every hash.

        Args:
            number: which part.
            take: may read a shard itself; returns its hash, or None to leave the reading to this method.

        Returns:
            one line for each thing that is wrong, naming file and tensor; empty when it is as it was written.
        """
        part, damage = self.parts[number], []
        try:
            if self.files.hash_range(number, 0, part.header_bytes) != part.header_hash:
                damage.append(f"{part.file}: the header was changed (its hash does not match)")
            # In the order of the file.
            for state, entry in _in_file_order(part):
                damage += self.find_damage_in(number, entry, state, take(number, entry, state) if take else None)
        except ManifestProblem as problem:
            damage.append(str(problem))
        return damage

    def find_damage_in(self, number: int, entry: Entry, state: str, found: str | None = None) -> list[str]:
        """Compare the hash of one shard in one state; `found` is its hash, if it has been read already.

        Raises:
            ManifestProblem: the file cannot be read.
        """
        found = found or self.files.hash_range(number, entry.offsets[state], entry.elements * BYTES_PER_ELEMENT)
        if found == entry.hashes[state]:
            return []
        return [f"{self.parts[number].file}: {state}/{entry.name} was changed (its hash does not match)"]

    def fill(self, name: str, state: str, wanted: Rectangles, target: npt.NDArray[np.float32]) -> int:
        """Copy rectangles of one tensor into memory.

        Args:
            name: global parameter name.
            state: the fp32 weight, or a state of the optimizer.
            wanted: int64[K, 5], as `rectangles` gives them; the last column is the element offset in `target`.
            target: float32, flat and contiguous; filled in place.

        Returns:
            how many elements were copied.

        Raises:
            ManifestProblem: a file cannot be read.
        """
        source = self.sources[name]
        boxes, copied = source.rectangles, 0
        for row0, row1, column0, column1, start in wanted.tolist():
            window = target[start : start + (row1 - row0) * (column1 - column0)].reshape(row1 - row0, -1)
            top, bottom = np.maximum(boxes[:, 0], row0), np.minimum(boxes[:, 1], row1)
            left, right = np.maximum(boxes[:, 2], column0), np.minimum(boxes[:, 3], column1)
            for k in np.nonzero((top < bottom) & (left < right))[0].tolist():
                number, entry = source.shards[source.shard_of[k]]
                box_row0, _, box_column0, box_column1, box_start = boxes[k].tolist()
                width = box_column1 - box_column0
                y0, y1, x0, x1 = int(top[k]), int(bottom[k]), int(left[k]), int(right[k])
                first = box_start + (y0 - box_row0) * width
                self._read_box(
                    number,
                    entry.offsets[state] + first * BYTES_PER_ELEMENT,
                    width,
                    slice(x0 - box_column0, x1 - box_column0),
                    window[y0 - row0 : y1 - row0, x0 - column0 : x1 - column0],
                )
                copied += (y1 - y0) * (x1 - x0)
        return copied

    def _read_box(self, number: int, offset: int, width: int, columns: slice, target: npt.NDArray[np.float32]) -> None:
        """Read rows of `width` stored elements and keep some of their columns."""
        if target.flags.c_contiguous and target.shape[1] == width:
            self.files.read_into(number, offset, target.reshape(-1).data.cast("B"))
            return
        if len(target) == 1:
            # Part of one row: no need to read the rest of it.
            begin = offset + columns.start * BYTES_PER_ELEMENT
            self.files.read_into(number, begin, target.reshape(-1).data.cast("B"))
            return
        rows_at_once = max(1, CHUNK_BYTES // (width * BYTES_PER_ELEMENT))
        for row in range(0, len(target), rows_at_once):
            some = target[row : row + rows_at_once]
            scratch = np.empty((len(some), width), dtype=np.float32)
            begin = offset + row * width * BYTES_PER_ELEMENT
            self.files.read_into(number, begin, scratch.reshape(-1).data.cast("B"))
            some[:] = scratch[:, columns]


def _in_file_order(part: Part) -> list[tuple[str, Entry]]:
    stored = [(entry.offsets[state], state, entry) for entry in part.entries for state in entry.states]
    return [(state, entry) for _, state, entry in sorted(stored, key=lambda item: item[0])]


def as_checkpoint_error(path: Path, problems: list[str]) -> CheckpointError:
    """What is wrong with the checkpoint at `path`, as one error."""
    listed = problems[0] if len(problems) == 1 else "".join(f"\n- {problem}" for problem in problems)
    return CheckpointError(
        listed, where=path, expected="a complete, undamaged checkpoint; see `python -m pretrain.checkpoint verify`"
    )


def _read(path: Path, name: str) -> bytes:
    try:
        with (path / name).open("rb") as file:
            data = file.read(_MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ManifestProblem(f"{name}: cannot be read ({error.strerror})") from None
    if len(data) > _MAX_JSON_BYTES:
        raise ManifestProblem(f"{name}: holds more than {_MAX_JSON_BYTES} bytes")
    return data
