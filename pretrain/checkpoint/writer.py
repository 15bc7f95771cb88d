"""Saving: the collective half that training waits for. The rest happens in `attempt.py`, in the background.

What is saved changes only when the optimizer steps. So the copy, too, is made in the background, while the next batch
goes forward and backward; `wait_for_copy` is what the optimizer has to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.checkpoint.attempt import Retention, SaveAttempt, remove_attempts
from pretrain.checkpoint.directory import (
    appears,
    check_free_space,
    check_writable,
    clean_up,
    list_checkpoints,
    new_nonce,
    nonce_of,
    temporary_name,
    try_unlink,
)
from pretrain.checkpoint.directory_lock import DirectoryLock
from pretrain.checkpoint.manifest import encode_metadata
from pretrain.checkpoint.part_writer import PartTimes, plan_part, prepare_copy
from pretrain.checkpoint.ranks import Problem, Ranks, raise_together
from pretrain.checkpoint.state_shards import StateShard

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

SHARED_WAIT_S = 30.0
CLOSE_WAIT_S = 60.0
END_WAIT_S = 10.0


@dataclass(frozen=True)
class SaveStall:
    """How long the call that began a save kept training waiting, on this rank.

    Attributes:
        wait_s: for the save before this one to end.
        agree_s: for the ranks to agree, and the free-space check.
        total_s: all of it; when not asynchronous, up to the commit.
        copied_bytes: what this rank is going to copy.
    """

    wait_s: float
    agree_s: float
    total_s: float
    copied_bytes: int


class CheckpointWriter:
    """Saves shards of all ranks as checkpoints in one directory. Collective: every rank makes one.

    At the start rank 0 makes the directory, takes its lock and removes what dead attempts left, and every rank makes
    sure that it sees the same directory as rank 0.

    Args:
        root: the directory of checkpoints, shared by all machines.
        asynchronous: whether hashing and writing happen while training goes on.
        keep_last: how many of the newest checkpoints stay.
        keep_every_steps: checkpoints at multiples of this stay for ever; None: none do.
        starts_anew: whether the checkpoints that are there are of another run; the first save sets them aside.
        peer_timeout_s: how long rank 0 waits for the parts of other ranks.
        group: the ranks that save; None: all.

    Raises:
        CheckpointError: the directory cannot be written, is in use by another run, or is not shared.
    """

    def __init__(
        self,
        root: Path,
        *,
        asynchronous: bool = True,
        keep_last: int = 2,
        keep_every_steps: int | None = None,
        starts_anew: bool = False,
        peer_timeout_s: float = 1800.0,
        group: ProcessGroup | None = None,
    ) -> None:
        self.root = Path(root)
        self.asynchronous = asynchronous
        self.retention = Retention(keep_last, keep_every_steps)
        self.peer_timeout_s = peer_timeout_s
        self.superseded: tuple[int, ...] = ()
        """Steps of checkpoints that the next save sets aside; known to rank 0."""
        self.last_times: PartTimes | None = None
        """Where the time of this rank's last finished part went."""
        self._ranks = Ranks(group)
        self._attempt: SaveAttempt | None = None
        self._buffer: torch.Tensor | None = None
        self._lock: DirectoryLock | None = None
        # Waits for work from now on: starting a thread takes longer than all that the ranks have to agree on.
        self._background: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=_serve, args=(self._background,), name="checkpoint", daemon=True)
        self._thread.start()
        self._open_directory(starts_anew)

    def save(self, step: int, shards: list[StateShard], metadata: dict[str, Any]) -> SaveStall:
        """Save what the shards hold now. Collective; waits for the save before, and tells if that one failed.

        The shards must not change until `wait_for_copy` has returned.

        Args:
            step: steps that were trained.
            shards: what this rank holds; those that it does not own are left out.
            metadata: what JSON can hold; rank 0's is stored.

        Returns:
            how long this call took.

        Raises:
            CheckpointError: on every rank, if on any the save before failed, or this one cannot start (too little free
                space). Checkpoints that were complete stay as they are, and a later save may succeed.
        """
        began_s = time.perf_counter()
        metadata = encode_metadata(metadata)
        plan = plan_part(shards, self._ranks.rank)
        problem = self._await_part()
        waited_s = time.perf_counter()
        # Before the copy is under way: messages between ranks wait long for a core that copies.
        directory = self._begin(step, problem, plan.file_bytes)
        agreed_s = time.perf_counter()
        buffer = self._reserve(plan.elements, shards)
        self._attempt = SaveAttempt(
            directory=directory,
            step=step,
            metadata=metadata,
            plan=plan,
            buffer=buffer,
            copy=prepare_copy(plan, buffer),
            rank=self._ranks.rank,
            size=self._ranks.size,
            retention=self.retention,
            superseded=self.superseded,
            peer_timeout_s=self.peer_timeout_s,
        )
        self._attempt.start(self._background.put)
        if not self.asynchronous:
            self.wait_all_ranks()
        copied = plan.file_bytes - len(plan.header)
        return SaveStall(waited_s - began_s, agreed_s - waited_s, time.perf_counter() - began_s, copied)

    def wait_for_copy(self) -> float:
        """Wait until the tensors of the last save may change again. Not collective.

        Returns:
            how long that took, in seconds.
        """
        began_s = time.perf_counter()
        if self._attempt is not None:
            self._attempt.copied.wait()
        return time.perf_counter() - began_s

    def prepare(self, shards: list[StateShard]) -> None:
        """Get the memory for the copy now, so that the first save stalls no longer than the others."""
        elements = plan_part(shards, self._ranks.rank).elements
        self._reserve(elements, shards).zero_()

    def wait(self) -> None:
        """Wait for this rank's work on the last save; on rank 0 that includes the commit. Not collective.

        Raises:
            CheckpointError: it failed on this rank.
            RuntimeError: the same, for a bug.
        """
        if self._attempt is not None:
            self._attempt.finished.wait()
            raise_together([self._attempt.problem], self.root)

    def wait_all_ranks(self) -> None:
        """Wait until the last save is committed. Collective.

        Raises:
            CheckpointError: on every rank, if it failed on any; no trace of it is left.
        """
        problem = self._await_part()
        raise_together(self._ranks.broadcast(self._settle(self._ranks.gather(problem))), self.root)

    def close(self) -> None:
        """Release the directory's lock. Not collective; a save under way gets a while to end.

        After `wait_all_ranks` there is none. Otherwise something went wrong, and other ranks may be gone for good.
        """
        if self._attempt is not None and not self._attempt.finished.wait(CLOSE_WAIT_S):
            self._attempt.give_up.set()
        if self._lock is not None:
            self._lock.release()
        self._background.put(None)
        self._buffer = self._attempt = None
        self._thread.join(END_WAIT_S)

    def _await_part(self) -> Problem | None:
        """Wait for this rank's part of the last save, not yet for the commit: other ranks may have failed."""
        if self._attempt is None:
            return None
        self._attempt.written.wait()
        return self._attempt.problem

    def _settle(self, problems: list[Problem | None]) -> list[Problem | None]:
        """With every rank's part written or failed: end the last attempt. On rank 0, the commit's outcome counts."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return problems
        if any(problems):
            attempt.give_up.set()
        attempt.finished.wait()
        self.last_times = attempt.times or self.last_times
        if self._ranks.rank == 0:
            problems = [attempt.problem or problems[0], *problems[1:]]
            if any(problems):
                remove_attempts(self.root)
            else:
                self.superseded = ()
        return problems

    def _begin(self, step: int, problem: Problem | None, file_bytes: int) -> Path:
        """End the last attempt on all ranks, and agree on a directory for the next.

        The ranks tell each other numbers; words only when something is wrong, since gathering those takes longer.
        """
        failed, total_bytes = self._ranks.total(int(problem is not None), file_bytes)
        problems = self._settle(self._ranks.gather(problem) if failed else [None] * self._ranks.size)
        number = 0
        if self._ranks.rank == 0 and not any(problems):
            try:
                check_free_space(self.root, total_bytes)
                number = int(new_nonce(), 16)
                (self.root / temporary_name(step, nonce_of(number))).mkdir()
            except CheckpointError as error:
                problems = [Problem.of(error, self.root)]
            except OSError as error:
                problems = [Problem(f"{error.filename}: {error.strerror}")]
        refused, number = self._ranks.total(int(self._ranks.rank == 0 and any(problems)), number)
        if refused or failed:
            raise_together(self._ranks.broadcast(problems), self.root)
        return self.root / temporary_name(step, nonce_of(number))

    def _reserve(self, elements: int, shards: list[StateShard]) -> torch.Tensor:
        """Memory for the copy, kept from save to save; pinned where it is copied from a GPU."""
        import torch

        if self._buffer is None or self._buffer.numel() < elements:
            self._buffer = None
            on_gpu = any(tensor.is_cuda for shard in shards for tensor in shard.tensors.values())
            self._buffer = torch.empty(elements, dtype=torch.float32, pin_memory=on_gpu)
        return self._buffer

    def _open_directory(self, starts_anew: bool) -> None:
        probe = None
        problem: Problem | None = None
        if self._ranks.rank == 0:
            try:
                check_writable(self.root)
                self._lock = DirectoryLock(self.root)
                clean_up(self.root)
                if starts_anew:
                    self.superseded = tuple(step for step, _ in list_checkpoints(self.root))
                probe = self.root / f".probe-{new_nonce()}"
                probe.touch()
            except CheckpointError as error:
                problem = Problem.of(error, self.root)
            except OSError as error:
                problem = Problem(f"{error.filename}: {error.strerror}")
        problem, name = self._ranks.broadcast((problem, probe.name if probe else None))
        raise_together([problem], self.root)
        unseen = None
        if not appears(self.root / name, SHARED_WAIT_S):
            unseen = Problem("this rank does not see the files that rank 0 writes: the directory is not shared")
        problems = self._ranks.gather(unseen)
        if probe is not None:
            try_unlink(probe)
        raise_together(problems, self.root)


def _serve(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # and with it the copy of the state
