"""Loading into the ranks of any layout: verified together, the step before where the newest is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, UserError, nearest
from pretrain.checkpoint.attempt import warn
from pretrain.checkpoint.directory import is_checkpoint, list_checkpoints
from pretrain.checkpoint.filling import Filler
from pretrain.checkpoint.index import (
    Index,
    as_checkpoint_error,
    decode_manifest,
    decode_parts,
    read_manifest_bytes,
    read_part_manifest,
)
from pretrain.checkpoint.manifest import MASTER, ManifestProblem
from pretrain.checkpoint.ranks import Problem, Ranks, raise_together
from pretrain.checkpoint.state_shards import StateShard

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

MAX_LISTED = 8


def load_checkpoint(
    path: Path,
    shards: list[StateShard],
    *,
    check: Callable[[dict[str, Any]], None] | None = None,
    verify: bool = True,
    group: ProcessGroup | None = None,
) -> dict[str, Any]:
    """Fill the shards of all ranks, in place, from a checkpoint of any layout. Collective.

    Every part file is read and its hashes are compared by one of the ranks before anything is used. Where one is
    damaged, a warning names file and tensor, and the checkpoint of the step before is taken.

    Args:
        path: a directory of checkpoints, whose newest sound one is loaded; or one checkpoint, then that or none.
        shards: what this rank holds; all of it is filled, also what it does not own.
        check: called on every rank with the metadata before tensors are read; raises a `UserError` to refuse.
        verify: False skips the comparison of the tensors' hashes.
        group: the ranks that load; None: all.

    Returns:
        the metadata of the checkpoint that was loaded.

    Raises:
        CheckpointError: on every rank: there is no checkpoint, none is sound (says what is wrong with each), or it
            holds other tensors than the model.
        UserError: from `check`.
    """
    ranks = Ranks(group)
    damaged: list[str] = []
    candidates = _candidates(Path(path), ranks)
    for candidate, next_one in zip(candidates, [*candidates[1:], None], strict=True):
        problems = _load_one(candidate, shards, check, verify, ranks)
        if isinstance(problems, dict):
            return problems
        damaged.append(f"{candidate.name}: " + "; ".join(problems))
        if ranks.rank == 0 and next_one:
            warn(f"{candidate} IS DAMAGED, falling back to {next_one.name}: " + "; ".join(problems))
    raise as_checkpoint_error(Path(path), damaged)


def _candidates(path: Path, ranks: Ranks) -> list[Path]:
    """What to try, newest first; rank 0 looks, so that all ranks try the same."""
    found: list[Path] = []
    problem = None
    if ranks.rank == 0:
        try:
            found = [path] if is_checkpoint(path) else [entry for _, entry in reversed(list_checkpoints(path))]
            if not found:
                problem = Problem("holds no complete checkpoint" if path.exists() else "does not exist")
        except CheckpointError as error:
            problem = Problem.of(error, path)
    found, problem = ranks.broadcast((found, problem))
    raise_together([problem], path)
    return found


def _load_one(
    path: Path,
    shards: list[StateShard],
    check: Callable[[dict[str, Any]], None] | None,
    verify: bool,
    ranks: Ranks,
) -> dict[str, Any] | list[str]:
    """Load one checkpoint: its metadata, or what is wrong with it."""
    index = _open_index(path, check, ranks)
    if isinstance(index, list):
        return index
    _check_tensors(index, shards, ranks)
    filler = Filler(index, shards)
    with index.files:
        if verify and (problems := _agree(filler.verify(range(ranks.rank, len(index.parts), ranks.size)), ranks)):
            return problems
        damage = []
        try:
            filler.fill()
        except ManifestProblem as problem:
            # The disk failed after the check; whatever is loaded next overwrites all of what was filled.
            damage = [str(problem)]
    if problems := _agree(damage, ranks):
        return problems
    return index.manifest.metadata


def _open_index(path: Path, check: Callable[[dict[str, Any]], None] | None, ranks: Ranks) -> Index | list[str]:
    """Read the manifests, each by one rank, and share them: with many ranks, reading all on each would be a storm."""
    data: bytes | str = b""
    if ranks.rank == 0:
        try:
            data = read_manifest_bytes(path)
        except ManifestProblem as problem:
            data = str(problem)
    data = ranks.broadcast(data)
    if isinstance(data, str):
        return [data]
    try:
        # The same bytes on every rank: all of them come to the same end.
        manifest = decode_manifest(data)
    except ManifestProblem as problem:
        return [str(problem)]
    _check_metadata(manifest.metadata, check, ranks)
    mine: dict[str, bytes] = {}
    damage = []
    for name in list(manifest.parts)[ranks.rank :: ranks.size]:
        try:
            mine[name] = read_part_manifest(path, name)
        except ManifestProblem as problem:
            damage.append(str(problem))
    answers = ranks.gather((mine, damage))
    if problems := [line for _, lines in answers for line in lines]:
        return problems[:MAX_LISTED]
    try:
        raw = {name: content for part, _ in answers for name, content in part.items()}
        return Index(path, manifest, decode_parts(manifest, raw))
    except ManifestProblem as problem:
        return [str(problem)]


def _check_metadata(metadata: dict[str, Any], check: Callable[[dict[str, Any]], None] | None, ranks: Ranks) -> None:
    if check is None:
        return
    refusal: UserError | None = None
    try:
        check(metadata)
    except UserError as error:
        refusal = error
    for found in ranks.gather(refusal):
        if found is not None:
            raise found


def _check_tensors(index: Index, shards: list[StateShard], ranks: Ranks) -> None:
    """The checkpoint and the model must hold the same tensors in the same shapes."""
    wanted = {shard.shape.name: tuple(shard.shape.global_shape) for shard in shards}
    states = {shard.shape.name: shard.states for shard in shards}
    problem = None
    for name, shape in wanted.items():
        if name not in index.sources:
            close = nearest(name, index.sources)
            problem = Problem(f"has no tensor {name}" + (f"; the nearest is {close}" if close else ""))
        elif index.sources[name].shape != shape:
            problem = Problem(f"{name} has shape {list(index.sources[name].shape)}, the model's is {list(shape)}")
        elif lacking := [state for state in states[name] if state not in index.sources[name].states]:
            stored = ", ".join(index.sources[name].states)
            problem = Problem(f"holds no {lacking[0]} of {name}, which the optimizer keeps; it has {stored}")
        if problem:
            break
    answers = ranks.gather((problem, set(wanted)))
    raise_together([problem for problem, _ in answers], index.path)
    # States that are not asked for stay unread, those with shapes of their own like all others.
    parameters = {name for name, source in index.sources.items() if MASTER in source.states}
    unused = sorted(parameters.difference(*(names for _, names in answers)))
    if unused:
        more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
        raise CheckpointError(f"holds {unused[0]}{more}, which the model does not have", where=index.path)


def _agree(damage: list[str], ranks: Ranks) -> list[str]:
    lines = [line for found in ranks.gather(damage[:MAX_LISTED]) for line in found]
    return lines[:MAX_LISTED] + ([f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else [])
