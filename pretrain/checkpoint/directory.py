"""The names in a checkpoint directory: which are complete, which is newest, which may go.

```
root/step_00000100/              complete: one rename made it visible
root/.tmp-00000200-NONCE/        being written, or left by an attempt that died
root/.replaced-00000100-NONCE/   complete; about to change places with the one that has the name of its step
root/step_00000300.superseded-NONCE/   set aside: of a run that was rolled back, or begun anew
```
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from configs.errors import CheckpointError
from data_prep.storage.publishing import publish_directory
from pretrain.checkpoint.state_shards import BYTES_PER_ELEMENT

MANIFEST = "manifest.json"
TEMPORARY_PREFIX = ".tmp-"
REPLACED_PREFIX = ".replaced-"
_STEP = re.compile(r"step_(\d{8,18})")
_REPLACED = re.compile(re.escape(REPLACED_PREFIX) + r"(\d{8,18})-[0-9a-f]+")


def step_name(step: int) -> str:
    """Name of the directory of a complete checkpoint."""
    return f"step_{step:08d}"


def temporary_name(step: int, nonce: str) -> str:
    """Name of the directory that one attempt to save writes into."""
    return f"{TEMPORARY_PREFIX}{step:08d}-{nonce}"


def new_nonce() -> str:
    """A name part that no other attempt has, so that parts of two attempts never mix."""
    return nonce_of(secrets.randbits(48))


def nonce_of(number: int) -> str:
    """The name part that the 48-bit `number`, which ranks can tell each other, stands for."""
    return f"{number:012x}"


def estimated_bytes(num_parameters: int, states_per_weight: float) -> int:
    """Bytes of one checkpoint: weights and optimizer states in fp32, and a little for names and hashes."""
    numbers = math.ceil(num_parameters * (1 + states_per_weight))
    return numbers * BYTES_PER_ELEMENT + num_parameters // 1000 + (1 << 20)


def list_checkpoints(root: Path) -> list[tuple[int, Path]]:
    """The checkpoints in `root`, oldest first; empty when there is no such directory.

    One whose manifest is gone is among them: it was there when the directory got its name, so this is damage, which
    whoever reads it has to tell.

    Raises:
        CheckpointError: `root` is not a directory, or cannot be read.
    """
    try:
        entries = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"cannot be listed ({error.strerror})", where=root) from None
    found: dict[int, Path] = {}
    for pattern in (_REPLACED, _STEP):
        # A replaced one counts only where the crash came before its successor got the name.
        for name in entries:
            if (match := pattern.fullmatch(name)) and (pattern is _STEP or has_manifest(root / name)):
                found[int(match[1])] = root / name
    return sorted(found.items())


def newest_checkpoint(root: Path) -> Path | None:
    """The checkpoint of the highest step in `root`, or None.

    Raises:
        CheckpointError: `root` is not a directory, or cannot be read.
    """
    found = list_checkpoints(root)
    return found[-1][1] if found else None


def has_manifest(path: Path) -> bool:
    """Whether a checkpoint's directory holds the file that was written last."""
    return (path / MANIFEST).is_file()


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is one checkpoint, as opposed to a directory of them."""
    return has_manifest(path) or _STEP.fullmatch(path.name) is not None


def check_writable(root: Path, needed_bytes: int = 0) -> None:
    """Create `root` and write a small file in it; needs no process group.

    Args:
        root: where checkpoints will go.
        needed_bytes: free space that there must be, such as `estimated_bytes(...)` of the model.

    Raises:
        CheckpointError: the directory cannot be made or written, or has too little free space.
    """
    probe = root / f".probe-{new_nonce()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"writable")
        probe.unlink()
    except OSError as error:
        where = error.filename if error.filename and not str(error.filename).startswith(str(probe)) else root
        raise CheckpointError(
            f"checkpoints cannot be written here ({error.strerror})", where=where, expected="a writable directory"
        ) from None
    check_free_space(root, needed_bytes)


def most_at_once(present: int, saves: int | None, keep_last: int) -> int:
    """How many checkpoints more than now lie on the disk when there are the most: old ones go after a new one is there.

    Args:
        present: complete ones that retention counts.
        saves: how many are still to come; None: any number.
        keep_last: how many stay.
    """
    if saves == 0:
        return 0
    before_last = keep_last if saves is None else min(keep_last, present + saves - 1)
    return max(1, before_last + 1 - present)


def check_free_space(root: Path, needed_bytes: int, soon_free_bytes: int = 0, *, count: int = 1) -> None:
    """Compare the file system's free bytes with what a save, or several, are going to write.

    Args:
        root: where checkpoints go.
        needed_bytes: what a save writes.
        soon_free_bytes: what is removed before.
        count: saves before anything may be removed.

    Raises:
        CheckpointError: too few; names both numbers.
    """
    free = shutil.disk_usage(root).free + soon_free_bytes
    if free < needed_bytes * count:
        one = f"a checkpoint needs {needed_bytes} bytes ({needed_bytes / 1e9:.2f} GB),"
        all_bytes = needed_bytes * count
        several = f" {count} lie here before an old one may go ({all_bytes} bytes, {all_bytes / 1e9:.2f} GB),"
        raise CheckpointError(
            f"{one}{several if count > 1 else ''} the disk has {free} bytes free ({free / 1e9:.2f} GB)",
            where=root,
            expected="more space, a smaller checkpoint.keep_last, or another output",
        )


def left_over_bytes(root: Path) -> int:
    """Size of what `clean_up` is going to remove."""
    dead = root.glob(f"{TEMPORARY_PREFIX}*")
    return sum(file.stat().st_blocks * 512 for path in dead for file in path.rglob("*") if file.is_file())


def publish(temporary: Path, step: int, superseded: Collection[int] = ()) -> list[Path]:
    """Give a finished checkpoint its name: the commit point. One rename, made durable.

    A checkpoint of the same step, and newer ones, come from another course of training, such as one that was rolled
    back. The newer ones are set aside before the commit, so that from then on the newest is what was saved last.

    Args:
        temporary: the directory that it was written into.
        step: steps that were trained.
        superseded: steps of older checkpoints that are set aside, too.

    Returns:
        the checkpoints that were set aside, under their new names.
    """
    root = temporary.parent
    nonce = temporary.name.rsplit("-", 1)[-1]
    target = root / step_name(step)
    others = [(n, path) for n, path in list_checkpoints(root) if n > step or (n < step and n in superseded)]
    aside = [_set_aside(path, n, nonce) for n, path in others]
    if target.exists():
        # Under this name it stands for the step for as long as nothing else does.
        temporary = temporary.rename(root / f"{REPLACED_PREFIX}{step:08d}-{nonce}")
        aside.append(_aside(target, step, nonce))
    publish_directory(temporary, target, _aside(target, step, nonce))
    return aside


def _aside(path: Path, step: int, nonce: str) -> Path:
    return path.with_name(f"{step_name(step)}.superseded-{nonce}")


def _set_aside(path: Path, step: int, nonce: str) -> Path:
    return path.rename(_aside(path, step, nonce))


def expired(steps: Iterable[int], keep_last: int, keep_every_steps: int | None) -> list[int]:
    """Which of the complete checkpoints retention gives up, oldest first.

    Args:
        steps: steps of the complete checkpoints.
        keep_last: how many of the newest stay.
        keep_every_steps: multiples of this stay for ever; None: only the newest stay.
    """
    ordered = sorted(steps)
    candidates = ordered[: max(0, len(ordered) - max(1, keep_last))]
    return [step for step in candidates if not (keep_every_steps and step > 0 and step % keep_every_steps == 0)]


def delete_checkpoint(path: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that a half-deleted one never counts as complete."""
    doomed = path.rename(path.with_name(f"{TEMPORARY_PREFIX}delete-{new_nonce()}"))
    shutil.rmtree(doomed, ignore_errors=True)


def clean_up(root: Path) -> list[Path]:
    """Remove what dead attempts left, and finish a replacement that a crash cut in two, whichever way it was going.

    Only for the one process that holds the directory's lock: there must be no live attempt.

    Returns:
        the directories that were removed.
    """
    removed = []
    for path in sorted(root.iterdir()):
        match = _REPLACED.fullmatch(path.name)
        if match and not (root / step_name(int(match[1]))).exists():
            path.rename(root / step_name(int(match[1])))
        elif match:
            _set_aside(path, int(match[1]), path.name.rsplit("-", 1)[-1])
        elif path.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def appears(path: Path, timeout_s: float) -> bool:
    """Whether a file shows up; network file systems take a while."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        # Listing makes an NFS client look again instead of trusting its cache.
        if path.parent.is_dir():
            next(path.parent.iterdir(), None)
        time.sleep(0.1)
    return True


def try_unlink(path: Path) -> None:
    """Remove a file if that can be done; what stays is removed at the next start."""
    with contextlib.suppress(OSError):
        path.unlink()
