"""Reading a checkpoint tensor by tensor, in one process, without ranks: how fine-tuning and export start."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.errors import CheckpointError, nearest
from pretrain.checkpoint.directory import is_checkpoint, list_checkpoints
from pretrain.checkpoint.index import Index, as_checkpoint_error, read_manifest
from pretrain.checkpoint.manifest import MASTER, ManifestProblem
from pretrain.checkpoint.state_shards import as_matrix

if TYPE_CHECKING:
    import torch


def find_checkpoints(path: Path) -> list[Path]:
    """What `path` means: one checkpoint; or those in it, or in the run directory that it is; oldest first.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if is_checkpoint(path):
        return [path]
    for root in (path, path / "checkpoints"):
        if found := list_checkpoints(root):
            return [checkpoint for _, checkpoint in found]
    problem = "holds no complete checkpoint" if path.exists() else "does not exist"
    raise CheckpointError(problem, where=path, expected="a step_... directory, or a directory that holds some")


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint (of a directory: the newest one), without reading tensors.

    Raises:
        CheckpointError: there is no checkpoint, or its manifest is damaged.
    """
    path = find_checkpoints(path)[-1]
    try:
        return read_manifest(path).metadata
    except ManifestProblem as problem:
        raise as_checkpoint_error(path, [str(problem)]) from None


class CheckpointReader:
    """One checkpoint of any layout as global tensors.

    Args:
        path: a checkpoint, or a directory whose newest one is meant.
        verify: whether the hash of everything that is read is compared first.

    Raises:
        CheckpointError: there is none, or its manifests are damaged.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self.path = find_checkpoints(path)[-1]
        self.verify = verify
        try:
            self._index = Index.open(self.path)
        except ManifestProblem as problem:
            raise as_checkpoint_error(self.path, [str(problem)]) from None

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the run, at the time of the save: step, consumed samples, config, fingerprints, layout."""
        return self._index.manifest.metadata

    @property
    def step(self) -> int:
        """Steps that were trained before it was saved."""
        return self._index.manifest.step

    @property
    def index(self) -> Index:
        """Where everything lies."""
        return self._index

    def names(self) -> list[str]:
        """Names of all parameters, in the order in which they were stored."""
        return [name for name, source in self._index.sources.items() if MASTER in source.states]

    def states(self, name: str) -> tuple[str, ...]:
        """Names of what is stored of a tensor: `master` (the fp32 weight) and the optimizer states."""
        self.shape(name)
        return self._index.sources[name].states

    def shape(self, name: str) -> tuple[int, ...]:
        """Global shape of a tensor.

        Raises:
            CheckpointError: there is no such tensor; names the nearest.
        """
        if name not in self._index.sources:
            raise CheckpointError(f"has no tensor {name!r}", where=self.path, nearest=nearest(name, self.names()))
        return self._index.sources[name].shape

    def tensor(self, name: str, state: str = MASTER) -> torch.Tensor:
        """One whole tensor, float32, on the CPU, in its global shape.

        Args:
            name: global parameter name.
            state: `master` for the weight, or a state of the optimizer, such as `exp_avg`.

        Raises:
            CheckpointError: there is no such tensor or state, or what is stored of it is damaged.
        """
        import torch

        shape = self.shape(name)
        states = self._index.sources[name].states
        if state not in states:
            raise CheckpointError(f"keeps no state {state!r}", where=self.path, expected=f"one of {', '.join(states)}")
        flat = np.empty(math.prod(shape), dtype=np.float32)
        rows, columns = as_matrix(shape)
        whole = np.array([[0, rows, 0, columns, 0]], dtype=np.int64)
        damage: list[str] = []
        try:
            if self.verify:
                for number, entry in self._index.sources[name].shards:
                    damage += self._index.find_damage_in(number, entry, state)
            copied = self._index.fill(name, state, whole, flat)
        except ManifestProblem as problem:
            damage.append(str(problem))
        if damage:
            raise as_checkpoint_error(self.path, damage)
        assert copied == flat.size, f"{name}: {copied} of {flat.size} elements"
        return torch.from_numpy(flat).reshape(shape)
