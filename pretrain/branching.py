"""A run that goes on from the checkpoint of another one, and is saved apart from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.checkpoint.directory import is_checkpoint, list_checkpoints, step_name
from pretrain.checkpoint.index import Index, as_checkpoint_error
from pretrain.checkpoint.manifest import ManifestProblem
from pretrain.checkpoint.reader import find_checkpoints
from pretrain.checkpoint.weights_only import refuse_weights_only
from pretrain.config import RunConfig
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import SampleLengths
from pretrain.starting.source import nearest_beside

if TYPE_CHECKING:
    from pretrain.lineage import Lineage


def find_branch(config: RunConfig) -> int | None:
    """The step that the run is going to branch off at; None: it does not. Reads all manifests, and no tensor.

    Raises:
        CheckpointError: there is nothing to branch from, nothing sound, weights alone, or nothing left to train.
    """
    path, mode = config.checkpoint.branch_from, config.checkpoint.resume
    if path is None or mode == "required":
        return None
    if mode == "auto" and list_checkpoints(config.output / "checkpoints"):
        return None
    where = f"checkpoint.branch_from = {path}"
    try:
        found = find_checkpoints(path)
    except CheckpointError as error:
        raise CheckpointError(
            error.problem,
            where=where,
            expected="a run's output directory, or one step_... of it",
            nearest=nearest_beside(path),
        ) from None
    damaged = []
    for checkpoint in reversed(found):
        try:
            index = Index.open(checkpoint)
        except ManifestProblem as problem:
            damaged.append(f"{checkpoint.name}: {problem}")
            continue
        if missing := index.find_missing():
            damaged.append(f"{checkpoint.name}: {'; '.join(missing)}")
            continue
        refuse_weights_only(index.manifest.metadata, path)
        _refuse_end(config, index.manifest.metadata, where)
        return index.manifest.step
    raise as_checkpoint_error(path, damaged)


def _refuse_end(config: RunConfig, metadata: dict[str, Any], where: str) -> None:
    """Refuse a branch that would be at its end where it begins, and leave no checkpoint behind.

    Raises:
        CheckpointError: `training.duration` is not longer than what the checkpoint has behind it.
    """
    step, length = metadata["step"], config.model.seq_length
    if config.training.duration.unit == "tokens" and metadata["model"].get("seq_length") != length:
        return  # how many tokens the steps before held is known once their data is
    progress = Progress(step, metadata["consumed_samples"])
    if RunSchedule(config.training, config.optimizer, SampleLengths.constant(length), progress).is_done(progress):
        raise CheckpointError(
            f"is of step {step}, and training.duration is {config.training.duration}, counted from the beginning of the"
            " run that it comes from: nothing is left to train",
            where=where,
            expected="a longer training.duration, or an earlier checkpoint",
        )


def branch_root(path: Path) -> Path:
    """What to load of `checkpoint.branch_from`: one checkpoint, or the directory of a run's checkpoints."""
    return path if is_checkpoint(path) or list_checkpoints(path) else path / "checkpoints"


def branch_record(root: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """What tells the checkpoint that a run branched from, for the metadata of its own.

    Args:
        root: what was loaded; see `branch_root`.
        metadata: of the checkpoint that it was.
    """
    checkpoint = root if is_checkpoint(root) else root / step_name(metadata["step"])
    told = {key: metadata[key] for key in ("step", "consumed_samples")}
    return {"path": str(checkpoint.absolute()), **told}


def unread_notes(config: RunConfig, lineage: Lineage, step: int) -> list[str]:
    """What a run that goes on from a checkpoint of its own is told of `checkpoint.branch_from`."""
    path, known = config.checkpoint.branch_from, lineage.branched_from
    if path is None:
        return []
    at = f"the run goes on from its checkpoint of step {step}, and checkpoint.branch_from is not read again"
    if known is None:
        return [f"{at}: {path} is ignored, the run did not begin as a branch"]
    # A run's directory was given where one of its checkpoints was read.
    if Path(known["path"]).is_relative_to(path.absolute()):
        return [at]
    return [f"{at}: the run branched from {known['path']}, and {path} is ignored"]
