"""What a run can start from, and what it is asked: its architecture, its tokenizer, rectangles of its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configs.errors import CheckpointError, DataError, nearest
from pretrain.checkpoint.reader import find_checkpoints
from pretrain.checkpoint.state_shards import Rectangles
from pretrain.config.model import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from data_prep.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
"""What tells a Hugging Face directory."""


class StartSource(Protocol):
    """Weights that a run can start from."""

    path: Path
    """One checkpoint, or a Hugging Face directory."""
    model: ModelConfig
    """The architecture; `vocab_size` is known."""
    notes: Sequence[str]
    """What is odd about it, a sentence each."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of one of our tensors by its global name; None: it has no such tensor."""
        ...

    def names(self) -> list[str]:
        """Our global names of all its tensors."""
        ...

    def fill(self, name: str, wanted: Rectangles, target: npt.NDArray[np.float32]) -> None:
        """Copy rectangles of one tensor into memory, as `Index.fill` does.

        Raises:
            CheckpointError: it cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of what was read."""
        ...

    def find_damage(self, rank: int, ranks: int) -> list[str]:
        """What is wrong with this rank's share of the files, a line each, as far as they can tell."""
        ...

    def is_same_tokenizer(self, fingerprint: str | None, tokenizer: Tokenizer | None) -> bool | None:
        """Whether a tokenizer gives the ids that the weights know; None: nobody recorded theirs.

        Args:
            fingerprint: of the tokenizer.
            tokenizer: itself; None: it is not there.
        """
        ...

    def content_hash(self) -> str:
        """A hash of all its weights, to tell them from others; may read all of its files.

        Raises:
            UserError: they cannot be read.
        """
        ...

    def record(self) -> dict[str, Any]:
        """Where the weights come from, for the metadata: `path`, `kind`, and what tells it from others there."""
        ...


def open_source(path: Path) -> StartSource:
    """What `path` means: a run or one of its checkpoints, an export of ours or another Hugging Face directory.

    Raises:
        UserError: neither, damaged, or an architecture that is none of ours.
    """
    if (path / CONFIG_FILE).is_file():
        from pretrain.starting.huggingface_source import HuggingFaceSource

        return HuggingFaceSource(path)
    try:
        find_checkpoints(path)
    except CheckpointError:
        refuse_no_source(path)
        raise
    from pretrain.starting.checkpoint_source import CheckpointSource

    return CheckpointSource(path)


def refuse_no_source(path: Path) -> None:
    """Say that there is nothing at `path` to start from.

    Raises:
        DataError: names the nearest directory beside it, if it does not exist.
    """
    raise DataError(
        "holds neither a complete checkpoint nor a config.json" if path.exists() else "does not exist",
        where=f"start_from = {path}",
        expected="a run's output directory, one step_... of it, an export, or a local Hugging Face model directory",
        nearest=nearest_beside(path),
    )


def nearest_beside(path: Path) -> str | None:
    """The directory beside `path` whose name is the nearest; None: there is none, or `path` itself exists."""
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings) if not path.exists() else None
    return str(path.parent / close) if close else None
