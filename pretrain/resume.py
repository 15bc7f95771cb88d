"""Where a run begins: at its newest checkpoint, if it is still the same run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from configs.errors import CheckpointError
from pretrain.branching import branch_record, branch_root, unread_notes
from pretrain.checkpoint.compatibility import check_compatible
from pretrain.checkpoint.directory import newest_checkpoint
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.weights_only import refuse_weights_only
from pretrain.config import RunConfig
from pretrain.data.history import DataHistory
from pretrain.data.run_data import RunData
from pretrain.data.saved_history import saved_history
from pretrain.engine.engine import TrainEngine
from pretrain.lineage import Lineage
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule

RATE_TOLERANCE = 0.05
"""Relative difference between a planned learning rate or weight decay and the present one from which on it is told."""


@dataclass(frozen=True)
class Resumed:
    """Where a run stands.

    Attributes:
        progress: zero for a new run.
        data: what the run reads, from there on.
        accepted_changes: a line for each setting that differs from the checkpoint's and was accepted.
        planned_rate: the learning rate that the next step was to have when the checkpoint was saved; None where
            nobody knows.
        planned_duration: the length that the run was to have then, likewise.
        planned_decay: the weight decay of the next step, likewise.
        is_new: whether there was no checkpoint to go on from.
        lineage: where a run that goes on came from, and its stretches.
        unread: what is told of a source that is not read any more.
    """

    progress: Progress
    data: RunData
    accepted_changes: list[str] = field(default_factory=list)
    planned_rate: float | None = None
    planned_duration: str | None = None
    planned_decay: float | None = None
    is_new: bool = False
    lineage: Lineage = field(default_factory=Lineage)
    unread: list[str] = field(default_factory=list)

    def notes(self, config: RunConfig, schedule: RunSchedule) -> list[str]:
        """What became of the saved run: the accepted changes, and a rate or decay that jumps; a sentence each."""
        told = [*self.unread, *(f"accepted change: {line}" for line in self.accepted_changes)]
        if schedule.is_done(self.progress):
            return told
        duration = str(config.training.duration)
        changed = f": training.duration was {self.planned_duration} and is {duration}"
        because = changed if self.planned_duration not in (None, duration) else ""
        restart = config.optimizer.restart_at
        restarted = f"; optimizer.restart_at is {restart}" if restart is not None else ""
        for name, planned, now, why in (
            ("learning rate", self.planned_rate, schedule.learning_rate(self.progress), because + restarted),
            ("weight decay", self.planned_decay, schedule.weight_decay(self.progress), because),
        ):
            if planned is not None and abs(now - planned) > RATE_TOLERANCE * planned:
                told.append(
                    f"the {name} jumps: it goes on at {now:.3g}, and {planned:.3g} was planned for this step when the"
                    f" checkpoint was saved{why}"
                )
        return told


def resume(config: RunConfig, data: RunData, engine: TrainEngine) -> Resumed:
    """Load the newest sound checkpoint of the run into `engine`, as `checkpoint.resume` says. Collective.

    Where it has none, `checkpoint.branch_from` is loaded in its place; with neither the run is new.

    Raises:
        CheckpointError: there is none though one is required, none is sound, or it is of another run.
    """
    root, mode, branch = config.output / "checkpoints", config.checkpoint.resume, config.checkpoint.branch_from
    has_none = mode == "never" or (mode == "auto" and _finds_none(root, engine))
    if has_none and branch is None:
        return Resumed(Progress(), data, is_new=True)
    if has_none and branch is not None:
        root = branch_root(branch)
    found: list[tuple[RunData, list[str]]] = []

    def check(metadata: dict[str, Any]) -> None:
        refuse_weights_only(metadata, root)
        found[:] = [continued_data(metadata, config, data, root)]

    metadata = load_checkpoint(root, engine.shards(), check=check)
    engine.restore(metadata["optimizer_step"], metadata["loss_scale"])
    progress = Progress(metadata["step"], metadata["consumed_samples"], metadata["skipped_steps"])
    (continued, accepted), duration = found[0], str(config.training.duration)
    before = metadata["config"]["training"].get("duration")
    changes = accepted if before in (None, duration) else [*accepted, f"training.duration: {before} -> {duration}"]
    saved = Lineage.of(metadata)
    return Resumed(
        progress,
        continued,
        accepted,
        metadata.get("learning_rate"),
        before,
        metadata.get("weight_decay"),
        lineage=saved.continued(progress.step, changes, branch_record(root, metadata) if has_none else None),
        unread=[] if has_none else unread_notes(config, saved, progress.step),
    )


def continued_data(metadata: dict[str, Any], config: RunConfig, data: RunData, root: Path) -> tuple[RunData, list[str]]:
    """What the run reads from the checkpoint on, and the changes that were accepted.

    Raises:
        CheckpointError: the run is another one, or cannot go on with its data.
    """
    before = saved_history(metadata)
    if before is not None:
        data.check_split(config, before)
    position = metadata["step"], metadata["consumed_samples"]
    try:
        accepted = check_compatible(
            metadata,
            config,
            data.fingerprint,
            data.tokenizer_fingerprint,
            config.checkpoint.allow_changes,
            where=root,
        )
    except CheckpointError as refusal:
        if before is not None:
            _refuse_impossible(refusal, config, data, before, *position)
        raise
    if before is not None:
        return data.continuing(config, before, *position), accepted
    changed = [line for line in accepted if line.startswith(("seed", "model.seq_length", "objective", "data"))]
    if changed:
        raise CheckpointError(
            f"does not say what was read before it, and this changes what is read: {changed[0]}",
            where=root,
            expected="the saved value, or another output",
        )
    return data, accepted


def _refuse_impossible(
    refusal: CheckpointError, config: RunConfig, data: RunData, before: DataHistory, step: int, samples: int
) -> None:
    """Refuse changes that are not accepted with what stands in their way though they were.

    Raises:
        CheckpointError: the epoch that was begun cannot be gone on with as the corpora are cut now.
    """
    apart = config.data.reset_attention_at_documents
    sampling = config.objective.sampling(config.model, documents_apart=apart)
    if replace(sampling, marks_documents=False) == before.phases[-1].cutting:
        return
    try:
        data.continuing(config, before, step, samples)
    except CheckpointError as obstacle:
        raise CheckpointError(
            f"{refusal.problem}\nand accepted they cannot be gone on with: {obstacle.where}: {obstacle.problem}",
            where=refusal.where,
            expected=obstacle.expected,
        ) from None


def _finds_none(root: Path, engine: TrainEngine) -> bool:
    """Whether the main rank sees no checkpoint; all ranks do as it does."""
    none = torch.zeros(1, device=engine.topology.device)
    if engine.topology.rank == 0:
        # Where looking fails, loading will say why, on all ranks.
        with contextlib.suppress(CheckpointError):
            none.fill_(float(newest_checkpoint(root) is None))
    torch.distributed.broadcast(none, 0)
    return bool(none.item())
