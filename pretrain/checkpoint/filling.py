"""From part files into a rank's shards: straight where the layout is the same, by intersection where it is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pretrain.checkpoint.index import Index
from pretrain.checkpoint.manifest import Entry
from pretrain.checkpoint.part_writer import check_tensor
from pretrain.checkpoint.state_shards import Rectangles, StateShard, rectangles

if TYPE_CHECKING:
    import torch


class Filler:
    """Fills shards from one checkpoint.

    Args:
        index: the checkpoint.
        shards: what is filled, in place.
    """

    def __init__(self, index: Index, shards: list[StateShard]) -> None:
        self._index = index
        self._shards = shards
        self._wanted = [rectangles(shard.shape, shard.start, shard.stop) for shard in shards]
        self._same = {_key(shard.shape.name, found): n for n, (shard, found) in enumerate(zip(shards, self._wanted))}
        self._filled: set[tuple[int, str]] = set()

    def verify(self, parts: Iterable[int]) -> list[str]:
        """Read part files and compare every hash.

        A stored shard that is also wanted as it is goes straight into its place on the way: resuming in the layout
        of the save reads every byte once.

        Returns:
            one line for each thing that is wrong, naming file and tensor; then nothing of the shards counts as filled.
        """
        damage = [line for number in parts for line in self._index.find_damage(number, self._take)]
        if damage:
            self._filled.clear()
        return damage

    def fill(self) -> None:
        """Fill what is not filled yet.

        Raises:
            ManifestProblem: a file cannot be read.
        """
        for number, (shard, wanted) in enumerate(zip(self._shards, self._wanted)):
            for state in shard.states:
                if (number, state) in self._filled:
                    continue
                tensor = check_tensor(shard, state).detach()
                memory = _host_memory(tensor)
                copied = self._index.fill(shard.shape.name, state, wanted, memory.numpy())
                # The index covers every element once, so anything else is a mistake in the intersection.
                assert copied == shard.elements, f"{shard.shape.name}: {copied} of {shard.elements} elements of {state}"
                if memory is not tensor:
                    tensor.copy_(memory)

    def _take(self, number: int, entry: Entry, state: str) -> str | None:
        """Read a stored shard into its place, if this rank wants exactly it; the hash of what was read, or None."""
        place = self._same.get(_key(entry.name, entry.rectangles))
        if place is None or state not in self._shards[place].tensors:
            return None
        tensor = check_tensor(self._shards[place], state).detach()
        memory = _host_memory(tensor)
        found = self._index.files.read_hashed(number, entry.offsets[state], memory.numpy().data.cast("B"))
        if memory is not tensor:
            tensor.copy_(memory)
        self._filled.add((place, state))
        return found


def _host_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself on a CPU, else memory of its size to read into."""
    import torch

    return tensor if tensor.device.type == "cpu" else torch.empty(tensor.shape, dtype=tensor.dtype)


def _key(name: str, found: Rectangles) -> tuple[str, bytes]:
    return name, np.ascontiguousarray(found).tobytes()
