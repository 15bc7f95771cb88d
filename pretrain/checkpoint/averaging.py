"""The weighted mean of several checkpoints of one architecture, tensor by tensor (Izmailov et al. 2018, section 3)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, ConfigError
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from pretrain.checkpoint.compatibility import section_changes
from pretrain.checkpoint.directory import check_free_space
from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.model_checkpoint import open_checkpoint, run_directory
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.checkpoint.weights_only import RECORD_FILE, RUN_KIND, needed_bytes, write_weights_only
from pretrain.config.kinds import FAMILIES
from pretrain.config.model import ModelConfig

if TYPE_CHECKING:
    import torch

_OF_A_MOMENT = ("optimizer_step", "loss_scale", "learning_rate", "layout")
"""Metadata of one moment of one run, which a mean has not."""


@dataclass(frozen=True)
class Averaged:
    """What was written.

    Attributes:
        path: the checkpoint.
        shares: how much each of the sources counts, by its path; their sum is 1.
        num_tensors: how many tensors there are.
        left_out: names of the optimizer states that the sources hold, and the mean does not.
    """

    path: Path
    shares: dict[Path, float]
    num_tensors: int
    left_out: tuple[str, ...]


def average(
    checkpoints: Sequence[Path], output: Path, weights: Sequence[float] | None = None, *, overwrite: bool = False
) -> Averaged:
    """Write the mean of the weights of `checkpoints` as a checkpoint; sums are made in fp64, tensor by tensor.

    Args:
        checkpoints: at least two, each a checkpoint or a directory whose newest one is meant.
        output: a run's directory that is made; metadata and step are those of the source of the highest step.
        weights: how much each counts, relative to the others; None: all the same.
        overwrite: whether an earlier mean or import in `output` is replaced.

    Raises:
        ConfigError: fewer than two, one twice, or weights that do not fit.
        CheckpointError: one is damaged, or holds other tensors than the first.
        UserError: the output is in the way, or the disk is full.
    """
    shares = _shares(len(checkpoints), weights)
    readers = [CheckpointReader(path) for path in checkpoints]
    paths = [reader.path for reader in readers]
    if twice := next((path for path in paths if [p.resolve() for p in paths].count(path.resolve()) > 1), None):
        raise ConfigError(
            "is given twice", where=twice, expected="each checkpoint once; --weights says what counts more"
        )
    check_replaceable(output, RECORD_FILE, overwrite, paths, RUN_KIND)
    shapes = {name: readers[0].shape(name) for name in readers[0].names()}
    models = [open_checkpoint(path).model for path in paths]
    for reader, model in zip(readers[1:], models[1:], strict=True):
        _check_same_model(readers[0], models[0], reader, model)

    def mean(name: str) -> torch.Tensor:
        import torch

        total = torch.zeros(shapes[name], dtype=torch.float64)
        for reader, share in zip(readers, shares, strict=True):
            total.add_(reader.tensor(name), alpha=share)
        return total.float()

    newest = max(readers, key=lambda reader: reader.step)
    sources = [
        {"path": str(reader.path.absolute()), "step": reader.step, "share": share}
        for reader, share in zip(readers, shares, strict=True)
    ]
    metadata: dict[str, Any] = {key: value for key, value in newest.metadata.items() if key not in _OF_A_MOMENT}
    metadata |= {"optimizer_step": 0, "loss_scale": None}
    with staged_directory(output, RECORD_FILE, overwrite, paths, RUN_KIND) as folder:
        check_free_space(folder, needed_bytes(sum(math.prod(shape) for shape in shapes.values())))
        path = write_weights_only(folder, newest.step, shapes, mean, metadata, sources)
        tokenizer = run_directory(newest.path) / "tokenizer"
        if tokenizer.is_dir():
            shutil.copytree(tokenizer, folder / "tokenizer")
    states = {state for reader in readers for source in reader.index.sources.values() for state in source.states}
    written = output / path.relative_to(folder)
    return Averaged(written, dict(zip(paths, shares, strict=True)), len(shapes), tuple(sorted(states - {MASTER})))


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    if count < 2:
        raise ConfigError(f"{count} given", where="checkpoints", expected="two or more, of one architecture")
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count or not all(math.isfinite(weight) and weight > 0 for weight in given):
        told = ",".join(f"{weight:g}" for weight in given)
        raise ConfigError(f"is {told}", where="--weights", expected=f"{count} numbers above 0, one for each checkpoint")
    return [weight / sum(given) for weight in given]


def _check_same_model(
    first: CheckpointReader, first_model: ModelConfig, other: CheckpointReader, model: ModelConfig
) -> None:
    """Refuse checkpoints whose mean would be no model.

    Raises:
        CheckpointError: names the first key or tensor in which they differ.
    """
    changes = section_changes(FAMILIES, first_model.model_dump(mode="json"), model)
    differing = sorted(changes.keys() - model.drawing_keys - model.dropout_keys)
    if differing:
        key = differing[0]
        before, now = changes[key]
        raise CheckpointError(
            f"has model.{key}={now}, {first.path} has {before}",
            where=other.path,
            expected="checkpoints of one architecture",
        )
    fingerprints = [reader.metadata.get("tokenizer_fingerprint") for reader in (first, other)]
    if fingerprints[0] != fingerprints[1]:
        raise CheckpointError(
            f"has the tokenizer {fingerprints[1]}, {first.path} has {fingerprints[0]}: an id means other text",
            where=other.path,
            expected="checkpoints with one tokenizer",
        )
    for name in dict.fromkeys([*first.names(), *other.names()]):
        if name not in first.names() or other.shape(name) != first.shape(name):
            raise CheckpointError(
                f"holds other tensors than {first.path}: {name}",
                where=other.path,
                expected="checkpoints of one architecture",
            )
