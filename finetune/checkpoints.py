"""Checkpoints of a fine-tuning that is under way, from which the same command goes on after a kill.

```
OUTPUT.training/fine-tuned/step_00000100/    as pretraining writes them (pretrain/checkpoint/); the newest two stay
OUTPUT.training/fine-tuned/tensorboard/      event files
OUTPUT.training/from-scratch/...             the same of the baseline that starts from random weights
```

The directory goes when the output is complete.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from configs.errors import CheckpointError
from finetune.task_output import (
    FINE_TUNED_DIR,
    FROM_SCRATCH_DIR,
    TENSORBOARD_DIR,
    TRAINING_ENTRIES,
    training_directory,
)
from finetune.tasks.base_config import TaskConfig
from pretrain.checkpoint.compatibility import table_of
from pretrain.checkpoint.directory import newest_checkpoint
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.ranks import Ranks
from pretrain.checkpoint.writer import CheckpointWriter

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import EncodedPart
    from pretrain.engine.task_state import TaskState

KEPT = 2
"""Checkpoints that stay: where the newest is damaged, the one before it serves."""
FREE_KEYS = (
    *(
        "output",
        "overwrite",
        "baselines",
        "reference_cache",
        "augmentation.shown",
        "augmentation.translations",
        "training.device",
        "training.zero_stage",
        "training.micro_batch_size",
    ),
    *("training.log_interval", "training.tensorboard", "training.save_every", "training.resume"),
)
"""Settings that may differ when a training goes on: they do not decide its course."""


def copy_curves(output: Path, folder: Path) -> None:
    """Copy the event files of a training into `folder`, its finished result."""
    for fit in (FINE_TUNED_DIR, FROM_SCRATCH_DIR):
        curves = training_directory(output) / fit / TENSORBOARD_DIR
        if curves.is_dir():
            shutil.copytree(curves, folder / TENSORBOARD_DIR / fit)


def remove_training(output: Path) -> None:
    """Remove the state of a training whose result is complete, and nothing else that may lie there."""
    directory = training_directory(output)
    for pattern in TRAINING_ENTRIES:
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


class TaskCheckpoints:
    """Saves and restores one fit. Collective: every rank makes one.

    Args:
        root: the directory of its checkpoints.
        state: weights and optimizer states of this rank.
        config: what was asked for.
        course: what else decides the course of the training, by name: fingerprints.

    Raises:
        CheckpointError: the directory cannot be written, or another run writes there.
    """

    def __init__(self, root: Path, state: TaskState, config: TaskConfig, course: Mapping[str, str]) -> None:
        self._root, self._state = root, state
        self._settings, self._fingerprints = config.model_dump(mode="json"), dict(course)
        self._resumes = config.training.resume == "auto"
        interval = config.training.save_every
        self._every_s = interval.value if interval is not None and interval.unit == "seconds" else None
        self._writer = CheckpointWriter(root, keep_last=KEPT, starts_anew=not self._resumes)
        self._last_save_s = time.monotonic()

    def resume(self) -> dict[str, Any] | None:
        """Fill the state from the newest sound checkpoint; what `save` was given with it, None if there is none.

        Raises:
            CheckpointError: none is sound, or it is of a training with other settings, texts or weights.
        """
        is_there = self._resumes and Ranks().broadcast(newest_checkpoint(self._root) is not None)
        if not is_there:
            self._writer.prepare(self._state.shards())
            return None
        metadata = load_checkpoint(self._root, self._state.shards(), check=self._check)
        self._state.restore(metadata["optimizer_step"])
        progress: dict[str, Any] = metadata["progress"]
        return progress

    def is_due_by_time(self) -> bool:
        """Whether this rank's clock says that it is time to save."""
        return self._every_s is not None and time.monotonic() - self._last_save_s >= self._every_s

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Save in the background; the weights must not change before `wait_for_copy`. Collective.

        Args:
            step: steps that were trained.
            progress: what else goes on from there, JSON-able.

        Raises:
            CheckpointError: this save cannot begin, or the one before failed.
        """
        metadata = {
            "step": step,
            "optimizer_step": self._state.optimizer_step(),
            "progress": dict(progress),
            "settings": self._settings,
            "fingerprints": self._fingerprints,
            "bessemer_version": version("bessemer"),
        }
        self._writer.save(step, self._state.shards(), metadata)
        self._last_save_s = time.monotonic()

    def wait_for_copy(self) -> None:
        """Wait until the weights may change again."""
        self._writer.wait_for_copy()

    def finish(self) -> None:
        """Wait until the last save is on the disk. Collective.

        Raises:
            CheckpointError: it failed.
        """
        self._writer.wait_all_ranks()

    def close(self) -> None:
        """Let go of the directory, whatever happened; nothing stays of it where nothing was saved."""
        self._writer.close()
        if Ranks().rank == 0 and newest_checkpoint(self._root) is None:
            shutil.rmtree(self._root, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._root.parent.rmdir()

    def _check(self, metadata: dict[str, Any]) -> None:
        if any(key not in metadata for key in ("settings", "fingerprints", "progress")):
            raise CheckpointError("is no checkpoint of a fine-tuning", where=self._root, expected="another output")
        changes = changed_settings(metadata["settings"], self._settings)
        for key, now in self._fingerprints.items():
            if metadata["fingerprints"].get(key) != now:
                changes[key] = (metadata["fingerprints"].get(key), now)
        if changes:
            raise CheckpointError(
                f"was saved by another training at step {metadata.get('step')}; these would change its course\n"
                f"{table_of(changes)}",
                where=self._root,
                expected="the saved values, another output, or training.resume=never to begin anew",
            )


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every key that decides the course of a training and differs: key -> (saved value, value now).

    Args:
        saved: the settings of a task, as JSON has them.
        now: the same of the training that is asked for.
    """
    before, after = _flat(saved), _flat(now)
    keys = (before.keys() | after.keys()) - set(FREE_KEYS)
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def weights_fingerprint(network: torch.nn.Module) -> str:
    """Hash of the weights that a training starts from, whether this rank has them whole or in part."""
    from pretrain.engine.task_partitioning import whole_hash

    hashes = {name: whole_hash(parameter) for name, parameter in network.named_parameters()}
    return xxhash.xxh3_64_hexdigest(orjson.dumps(hashes))


def examples_fingerprint(encoded: Mapping[str, EncodedPart]) -> str:
    """Hash of the encoded examples: their tokens, and what a task's part has beside them as plain values or arrays."""
    digest = xxhash.xxh3_64()
    for part, examples in encoded.items():
        digest.update(part.encode())
        fields = getattr(examples, "__dict__", None) or {"lengths": examples.lengths, "weights": examples.weights}
        for name, value in fields.items():
            digest.update(name.encode())
            for item in value if isinstance(value, list | tuple) else [value]:
                digest.update(orjson.dumps(item, _kind, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
    return digest.hexdigest()


def _kind(value: Any) -> Any:
    """What stands for a value that cannot be told as JSON."""
    return value.tolist() if hasattr(value, "tolist") else type(value).__qualname__


def _flat(section: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
