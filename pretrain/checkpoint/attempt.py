"""One attempt to save: what happens in the background on each rank, and the commit on rank 0.

No collectives: rank 0 learns from the files that the other ranks have written their parts. A part is complete when
its manifest is there. Until the one rename at the end, nothing that counts as a checkpoint has changed.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.storage.publishing import write_whole
from pretrain.checkpoint.directory import (
    MANIFEST,
    TEMPORARY_PREFIX,
    delete_checkpoint,
    expired,
    has_manifest,
    list_checkpoints,
    publish,
    try_unlink,
)
from pretrain.checkpoint.index import decode_parts, join_parts, read_part_manifest
from pretrain.checkpoint.manifest import Manifest, ManifestProblem, hash_hex
from pretrain.checkpoint.part_writer import PartPlan, PartTimes, part_name, write_part
from pretrain.checkpoint.ranks import Problem

if TYPE_CHECKING:
    import torch

POLL_S = 0.02
MAX_POLL_S = 0.5
EXIT_WAIT_S = 60.0


class GivenUp(Exception):
    """Another rank could not write its part."""


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest, and multiples of a step count."""

    keep_last: int
    keep_every_steps: int | None


@dataclass
class SaveAttempt:
    """The background work of one save on one rank; what it works on is let go of when it is finished.

    Attributes:
        directory: the attempt's own temporary directory.
        step: steps that were trained.
        metadata: goes into the manifest.
        plan: this rank's part.
        buffer: where the copy of this rank's data goes.
        copy: copies the data into `buffer`.
        rank: this rank.
        size: how many ranks write.
        retention: applied by rank 0 after the commit.
        peer_timeout_s: how long rank 0 waits for the other parts.
        superseded: steps of checkpoints that rank 0 sets aside at the commit.
        copied: set when the tensors may change again: the copy is complete, or has failed.
        written: set when this rank's part is on the disk, or has failed.
        finished: set when this rank has no more to do; on rank 0, when the checkpoint has been committed or given up.
        give_up: set by the main thread to end rank 0's waiting for parts that will not come.
        problem: what went wrong.
        times: where the time of this rank's part went.
    """

    directory: Path
    step: int
    metadata: dict[str, Any]
    plan: PartPlan
    buffer: torch.Tensor
    copy: Callable[[], None]
    rank: int
    size: int
    retention: Retention
    peer_timeout_s: float
    superseded: tuple[int, ...] = ()
    copied: threading.Event = field(default_factory=threading.Event)
    written: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    give_up: threading.Event = field(default_factory=threading.Event)
    problem: Problem | None = None
    times: PartTimes | None = None

    def start(self, submit: Callable[[Callable[[], None]], None]) -> None:
        """Run in a thread, by `submit`. It is a daemon, so that a process that fails elsewhere can end; at the end of
        the process a checkpoint that is nearly there gets the time to get there.
        """
        atexit.register(self.finished.wait, EXIT_WAIT_S)
        submit(self.run)

    def run(self) -> None:
        """Copy and write this rank's part; rank 0 also commits. What goes wrong ends up in `problem`."""
        try:
            self.copy()
            self.copied.set()
            self.times = write_part(self.plan, self.buffer, self.directory)
            self.written.set()
            if self.rank == 0:
                self._commit()
        except BaseException as error:
            self.problem = Problem(f"the checkpoint of step {self.step} could not be written: {error}")
            # Looking at a file system that is gone may fail as well; the next save has to hear of it all the same.
            with contextlib.suppress(OSError):
                self.problem = self._describe(error)
                self._withdraw()
        finally:
            # Before this counts as finished: a thread that lets go of tensors while the interpreter shuts down aborts
            # the process, since torch frees them with the interpreter's lock, which is no more to be had.
            del self.plan, self.buffer, self.copy
            self.copied.set()
            self.written.set()
            self.finished.set()
            atexit.unregister(self.finished.wait)

    def _commit(self) -> None:
        names = [f"{part_name(rank)}.json" for rank in range(self.size)]
        self._await_parts(names)
        raw = {name: read_part_manifest(self.directory, name) for name in names}
        manifest = Manifest(self.step, {name: hash_hex(data) for name, data in raw.items()}, 0, self.metadata)
        parts = decode_parts(manifest, raw)
        # A rank that claims too much or too little is found now, not when the checkpoint is needed.
        join_parts(parts)
        total_bytes = sum(part.file_bytes for part in parts)
        whole = Manifest(self.step, manifest.parts, total_bytes, self.metadata)
        write_whole(self.directory / MANIFEST, whole.encode())
        for path in publish(self.directory, self.step, self.superseded):
            warn(
                f"{path.name}: of another course of training than the checkpoint of step {self.step} just saved,"
                " and set aside; delete it when it is not needed"
            )
        self._retire()

    def _await_parts(self, names: list[str]) -> None:
        deadline, pause_s = time.monotonic() + self.peer_timeout_s, POLL_S
        while True:
            present = {path.name for path in self.directory.iterdir()}
            missing = [name for name in names if name not in present]
            if not missing:
                return
            if self.give_up.is_set() or any(name.endswith(".failed") for name in present):
                raise GivenUp("another rank could not write its part")
            if time.monotonic() > deadline:
                raise TimeoutError(0, f"{missing[0]} and {len(missing) - 1} more parts not written in time")
            time.sleep(pause_s)
            pause_s = min(MAX_POLL_S, pause_s * 1.2)

    def _retire(self) -> None:
        # One that is damaged is no reason to give up a sound one, and is left to whoever wants to look into it.
        present = {step: path for step, path in list_checkpoints(self.directory.parent) if has_manifest(path)}
        for step in expired(present, self.retention.keep_last, self.retention.keep_every_steps):
            try:
                delete_checkpoint(present[step])
            except OSError as error:
                # The new checkpoint is safe; an old one too many is no reason to stop training.
                warn(f"{present[step]} could not be removed ({error.strerror})")

    def _describe(self, error: BaseException) -> Problem:
        if isinstance(error, GivenUp) or (isinstance(error, FileNotFoundError) and not self.directory.exists()):
            return Problem("the checkpoint was given up because another rank failed", is_consequence=True)
        if isinstance(error, OSError):
            name = Path(str(error.filename or self.plan.file)).name
            return Problem(f"the checkpoint of step {self.step} could not be written: {name}: {error.strerror}")
        if isinstance(error, ManifestProblem):
            return Problem(f"the checkpoint of step {self.step} is not consistent: {error}", is_bug=True)
        return Problem("".join(traceback.format_exception(error)), is_bug=True)

    def _withdraw(self) -> None:
        """Free the space, and let rank 0 know. What cannot be done now is done before the next save."""
        if self.rank == 0:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        for path in self.directory.glob(f"{part_name(self.rank)}.*"):
            try_unlink(path)
        try:
            (self.directory / f"{part_name(self.rank)}.failed").touch()
        except OSError:
            # Rank 0 then hears of it when the ranks next agree.
            return


def remove_attempts(root: Path) -> None:
    """Remove the directories of attempts that failed; only when no rank is writing."""
    for path in root.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def warn(message: str) -> None:
    """One line that is hard to overlook, on standard error."""
    print(f"warning: checkpoint: {message}", file=sys.stderr, flush=True)
