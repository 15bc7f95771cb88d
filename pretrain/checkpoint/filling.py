"""From part files into a rank's pieces: straight where the layout is the same, by intersection where it is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pretrain.checkpoint.index import Index
from pretrain.checkpoint.manifest import Entry
from pretrain.checkpoint.part_writer import check_tensor
from pretrain.checkpoint.pieces import Piece, Rectangles, rectangles

if TYPE_CHECKING:
    import torch


class Filler:
    """Fills pieces from one checkpoint.

    Args:
        index: the checkpoint.
        pieces: what is filled, in place.
    """

    def __init__(self, index: Index, pieces: list[Piece]) -> None:
        self._index = index
        self._pieces = pieces
        self._wanted = [rectangles(piece.shape, piece.start, piece.stop) for piece in pieces]
        self._same = {_key(piece.shape.name, found): n for n, (piece, found) in enumerate(zip(pieces, self._wanted))}
        self._filled: set[tuple[int, str]] = set()

    def verify(self, parts: Iterable[int]) -> list[str]:
        """Read part files and compare every hash.

        A stored piece that is also wanted as it is goes straight into its place on the way: resuming in the layout
        of the save reads every byte once.

        Returns:
            one line for each thing that is wrong, naming file and tensor; then nothing of the pieces counts as filled.
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
        for number, (piece, wanted) in enumerate(zip(self._pieces, self._wanted)):
            for state in piece.states:
                if (number, state) in self._filled:
                    continue
                tensor = check_tensor(piece, state).detach()
                memory = _host_memory(tensor)
                copied = self._index.fill(piece.shape.name, state, wanted, memory.numpy())
                # The index covers every element once, so anything else is a mistake in the intersection.
                assert copied == piece.elements, f"{piece.shape.name}: {copied} of {piece.elements} elements of {state}"
                if memory is not tensor:
                    tensor.copy_(memory)

    def _take(self, number: int, entry: Entry, state: str) -> str | None:
        """Read a stored piece into its place, if this rank wants exactly it; the hash of what was read, or None."""
        place = self._same.get(_key(entry.name, entry.rectangles))
        if place is None or state not in self._pieces[place].tensors:
            return None
        tensor = check_tensor(self._pieces[place], state).detach()
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
