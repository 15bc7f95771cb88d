"""The weights of an export in bfloat16: each the rounding of a weight that was compared with ours, and no other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from finetune.huggingface.weight_files import check_written, remove_weights, write_weights
from pretrain.models.huggingface import logit_check
from pretrain.models.huggingface.transformers_model import load_pretrained

if TYPE_CHECKING:
    import torch

    from pretrain.data.batch import MicroBatch


@dataclass(frozen=True)
class Rounding:
    """What rounding to bfloat16 changed.

    Attributes:
        tensors: that were read back and equal the rounding of the float32 model, bit for bit.
        largest_change: of a weight, absolute.
        largest_relative_change: of a weight, of its size; 2^-8 at most, but for numbers too small for bfloat16.
        tensor: that holds the weight with the largest change.
        largest_logit_difference: on one sequence of full length.
    """

    tensors: int
    largest_change: float
    largest_relative_change: float
    tensor: str
    largest_logit_difference: float

    def as_dict(self) -> dict[str, Any]:
        """For `export.json`."""
        return {"dtype": "bfloat16"} | asdict(self)


def round_weights(
    tensors: Iterable[tuple[str, torch.Tensor]],
    names: Sequence[str],
    exact: Any,
    folder: Path,
    max_shard_gb: float,
    rows: MicroBatch,
    checkpoint: Path,
) -> Rounding:
    """Put rounded weights in the place of float32 ones, read them back and compare each.

    What is compared with is the float32 model, whose logits were compared with ours: not what is written now.

    Args:
        tensors: fp32 weights by transformers' names, read once more.
        names: of the float32 files.
        exact: the model of these files.
        folder: where they lie, and the config that already says bfloat16.
        max_shard_gb: see `write_weights`.
        rows: on whose last row the logits are compared.
        checkpoint: where the weights come from, for errors.

    Raises:
        CheckpointError: a tensor is missing, left over or not the rounding, or logits are not finite any more.
    """
    import torch

    remove_weights(folder)
    write_weights(((name, tensor.to(torch.bfloat16)) for name, tensor in tensors), folder, max_shard_gb)
    weights = exact.state_dict()
    check_written(((name, weights[name].to(torch.bfloat16)) for name in names), folder)
    changed = logit_check.difference_between(exact, load_pretrained(folder, "float32"), rows)
    if not math.isfinite(changed):
        raise CheckpointError(
            "rounded to bfloat16, its logits are not finite", where=checkpoint, expected="dtype=float32"
        )
    changes = {name: _changes(weights[name]) for name in names}
    tensor = max(changes, key=lambda name: changes[name][0])
    relative = max(change for _, change in changes.values())
    return Rounding(len(names), changes[tensor][0], relative, tensor, changed)


def _changes(tensor: torch.Tensor) -> tuple[float, float]:
    """The largest change by rounding, absolute and of the size of the weight."""
    import torch

    if not tensor.numel():
        return 0.0, 0.0
    change = (tensor.to(torch.bfloat16).float() - tensor).abs()
    return float(change.max()), float((change / tensor.abs().clamp_min(torch.finfo(torch.float32).tiny)).max())
