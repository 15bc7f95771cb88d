"""A checkpoint of ours, of any layout, as what a run starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.checkpoint.index import Index, as_checkpoint_error, read_manifest_bytes
from pretrain.checkpoint.manifest import MASTER, ManifestProblem, hash_hex
from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.checkpoint.state_shards import Rectangles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from data_prep.tokenizer import Tokenizer


class CheckpointSource:
    """See `StartSource`.

    Args:
        path: a checkpoint, or a directory whose newest one is meant.

    Raises:
        CheckpointError: there is none, its manifests are damaged, or its model is not known here.
    """

    def __init__(self, path: Path) -> None:
        opened = open_checkpoint(path)
        self.path = opened.path
        self.model = opened.model
        self.notes: Sequence[str] = ()
        self._metadata = opened.metadata
        try:
            self._index = Index.open(self.path)
        except ManifestProblem as problem:
            raise as_checkpoint_error(self.path, [str(problem)]) from None
        # Looked at now: a file that is gone or cut off would else be found when the ranks run.
        if missing := self._index.find_missing():
            raise as_checkpoint_error(self.path, missing)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """See `StartSource.shape`."""
        source = self._index.sources.get(name)
        return None if source is None else source.shape

    def names(self) -> list[str]:
        """See `StartSource.names`."""
        return [name for name, source in self._index.sources.items() if MASTER in source.states]

    def fill(self, name: str, wanted: Rectangles, target: npt.NDArray[np.float32]) -> None:
        """See `StartSource.fill`; only the rectangles are read."""
        try:
            self._index.fill(name, MASTER, wanted, target)
        except ManifestProblem as problem:
            raise as_checkpoint_error(self.path, [str(problem)]) from None

    def close(self) -> None:
        """See `StartSource.close`."""
        self._index.files.close()

    def find_damage(self, rank: int, ranks: int) -> list[str]:
        """Compare the hashes of the weights in every `ranks`-th part from part `rank` on."""
        damage = []
        with self._index.files:
            for number in range(rank, len(self._index.parts), ranks):
                try:
                    for entry in self._index.parts[number].entries:
                        if MASTER not in entry.states:
                            continue  # an optimizer's state of rows or columns
                        damage += self._index.find_damage_in(number, entry, MASTER)
                except ManifestProblem as problem:
                    damage.append(str(problem))
        return damage

    def is_same_tokenizer(self, fingerprint: str | None, tokenizer: Tokenizer | None) -> bool | None:
        """See `StartSource.is_same_tokenizer`."""
        known = self._metadata.get("tokenizer_fingerprint")
        return None if known is None or fingerprint is None else known == fingerprint

    def content_hash(self) -> str:
        """See `StartSource.content_hash`: of its manifest, which holds the hashes of all parts."""
        try:
            return hash_hex(read_manifest_bytes(self.path))
        except ManifestProblem as problem:
            raise as_checkpoint_error(self.path, [str(problem)]) from None

    def record(self) -> dict[str, Any]:
        """See `StartSource.record`."""
        return {
            "path": str(self.path.absolute()),
            "kind": "checkpoint",
            "step": self._metadata.get("step"),
            "consumed_samples": self._metadata.get("consumed_samples"),
            "tokenizer_fingerprint": self._metadata.get("tokenizer_fingerprint"),
        }
