"""What the checkpoint needs of torch.distributed: this rank's number, exchanges, and agreement on errors.

Everything here runs in the main thread. Without an initialised process group there is one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

MAX_LISTED = 4


@dataclass(frozen=True)
class Problem:
    """What went wrong on a rank, in a form that travels to the others.

    Attributes:
        text: for people; of a bug, with its traceback.
        is_bug: not something that a user can mend.
        is_consequence: another rank's problem caused it; reported only when there is no other.
        expected: what would have been right, where that is known.
    """

    text: str
    is_bug: bool = False
    is_consequence: bool = False
    expected: str | None = None

    @classmethod
    def of(cls, error: CheckpointError, where: object) -> Problem:
        """What `error` says, without the place if that is `where`, which is printed anyway."""
        text = error.problem if error.where in (None, where) else f"{error.where}: {error.problem}"
        return cls(text, expected=error.expected)


class Ranks:
    """The process group that saves and loads together.

    Args:
        group: None means all ranks, or this process alone where torch.distributed is not initialised.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        import torch.distributed as dist

        self._group = group
        self._alone = not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if self._alone else dist.get_rank(group)
        self.size = 1 if self._alone else dist.get_world_size(group)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, on every rank. Collective."""
        if self._alone:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def total(self, *values: int) -> list[int]:
        """The sum over all ranks of each of `values`, on every rank: much quicker than `gather`. Collective."""
        if self._alone:
            return list(values)
        import torch
        import torch.distributed as dist

        device = "cuda" if dist.get_backend(self._group) == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.int64, device=device)
        dist.all_reduce(sums, group=self._group)
        return [int(value) for value in sums.tolist()]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank. Collective."""
        if self._alone:
            return value
        import torch.distributed as dist

        box = [value]
        if self._group is None:
            dist.broadcast_object_list(box, src=0)
        else:
            dist.broadcast_object_list(box, group_src=0, group=self._group)
        return box[0]


def raise_together(problems: list[Problem | None], where: object) -> None:
    """Raise the same error on every rank if any rank has a problem.

    Args:
        problems: what `Ranks.gather` gave, one entry per rank; or one entry for all.
        where: the directory that it is about.

    Raises:
        CheckpointError: something that a user can mend.
        RuntimeError: a bug on some rank; carries that rank's traceback.
    """
    found = [(rank, problem) for rank, problem in enumerate(problems) if problem is not None]
    if not found:
        return
    causes = [(rank, problem) for rank, problem in found if not problem.is_consequence] or found
    bugs = [f"rank {rank}: {problem.text}" for rank, problem in causes if problem.is_bug]
    if bugs:
        raise RuntimeError("\n".join(bugs))
    wishes = {problem.expected for _, problem in causes}
    expected = causes[0][1].expected if len(wishes) == 1 else None
    if len(problems) == 1:
        raise CheckpointError(causes[0][1].text, where=where, expected=expected)
    if len({problem.text for _, problem in causes}) == 1 and len(wishes) == 1:
        ranks = ", ".join(str(rank) for rank, _ in causes[:MAX_LISTED])
        more = f" and {len(causes) - MAX_LISTED} more" if len(causes) > MAX_LISTED else ""
        raise CheckpointError(f"{causes[0][1].text} (rank {ranks}{more})", where=where, expected=expected)
    lines = [
        f"\n- rank {rank}: {problem.text}"
        + (f" (expected: {problem.expected})" if problem.expected and len(wishes) > 1 else "")
        for rank, problem in causes[:MAX_LISTED]
    ]
    if len(causes) > MAX_LISTED:
        lines.append(f"\n- and {len(causes) - MAX_LISTED} more ranks")
    raise CheckpointError("".join(lines), where=where, expected=expected)
