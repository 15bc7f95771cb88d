"""Where a run begins: at its newest checkpoint, if it is still the same run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.errors import CheckpointError
from pretrain.checkpoint.compatibility import check_compatible
from pretrain.checkpoint.directory import newest_checkpoint
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.config import RunConfig
from pretrain.data.run_data import RunData
from pretrain.engine.engine import TrainEngine
from pretrain.schedule.progress import Progress


@dataclass(frozen=True)
class Resumed:
    """Where a run stands.

    Attributes:
        progress: zero for a new run.
        accepted_changes: a line for each setting that differs from the checkpoint's and was accepted.
    """

    progress: Progress
    accepted_changes: list[str]


def resume(config: RunConfig, data: RunData, engine: TrainEngine) -> Resumed:
    """Load the newest sound checkpoint of the run into `engine`, as `checkpoint.resume` says. Collective.

    Raises:
        CheckpointError: there is none though one is required, none is sound, or it is of another run.
    """
    root, mode = config.output_dir / "checkpoints", config.checkpoint.resume
    if mode == "never" or (mode == "auto" and _finds_none(root, engine)):
        return Resumed(Progress(), [])
    accepted: list[str] = []

    def check(metadata: dict[str, Any]) -> None:
        accepted[:] = check_compatible(
            metadata,
            config,
            data.fingerprint,
            data.tokenizer_fingerprint,
            config.checkpoint.allow_changes,
            where=root,
        )

    metadata = load_checkpoint(root, engine.shards(), check=check)
    engine.restore(metadata["optimizer_step"], metadata["loss_scale"])
    progress = Progress(metadata["step"], metadata["consumed_samples"], metadata["skipped_steps"])
    return Resumed(progress, accepted)


def _finds_none(root: Path, engine: TrainEngine) -> bool:
    """Whether the main rank sees no checkpoint; all ranks do as it does."""
    none = torch.zeros(1, device=engine.topology.device)
    if engine.topology.rank == 0:
        # Where looking fails, loading will say why, on all ranks.
        with contextlib.suppress(CheckpointError):
            none.fill_(float(newest_checkpoint(root) is None))
    torch.distributed.broadcast(none, 0)
    return bool(none.item())
