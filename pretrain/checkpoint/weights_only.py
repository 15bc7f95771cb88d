"""Checkpoints that hold weights alone, written tensor by tensor in one process: imported or averaged ones.

```
RUN/checkpoints/step_00000000/   one part, `master` of each tensor and no state of an optimizer
RUN/tokenizer/                   where there is one
RUN/weights.json                 where the weights come from
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from data_prep.storage.durable import start_writing_back
from data_prep.storage.replaceable import DirectoryKind
from pretrain.checkpoint.directory import MANIFEST, estimated_bytes, step_name
from pretrain.checkpoint.index import decode_parts, join_parts, read_part_manifest
from pretrain.checkpoint.manifest import MASTER, Manifest, encode_metadata, hash_hex
from pretrain.checkpoint.part_writer import announce_part, part_name, plan_part, write_all
from pretrain.checkpoint.state_shards import StateShard
from pretrain.parallel.sharded_shape import ShardedShape

if TYPE_CHECKING:
    import torch

RECORD_FILE = "weights.json"
"""The file in a run's directory that says that it holds weights alone, and whose."""
RUN_KIND = DirectoryKind(("holds", "sources"), ("checkpoints", "tokenizer"))
"""What tells the directory of such a run, which may be replaced."""
HOLDS = "holds"
"""Key of the metadata: `weights` where there are no states of an optimizer."""


def holds_weights_only(metadata: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds no states of an optimizer, so that no run can be resumed from it."""
    return metadata.get(HOLDS) == "weights"


def refuse_weights_only(metadata: Mapping[str, Any], where: Path) -> None:
    """Refuse to resume from a checkpoint without states of an optimizer.

    Raises:
        CheckpointError: says how to begin with its weights.
    """
    if holds_weights_only(metadata):
        raise CheckpointError(
            "holds weights and no states of an optimizer: no run can be resumed from it",
            where=where,
            expected=f"start_from={where.parent if where.name == 'checkpoints' else where} and another output",
        )


def write_weights_only(
    run: Path,
    step: int,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], torch.Tensor],
    metadata: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
) -> Path:
    """Write a checkpoint into the directory of a run, one tensor in memory at a time.

    Args:
        run: an existing directory, which nobody else writes.
        step: steps that the weights were trained.
        shapes: of each tensor by its global name, in the order of the network.
        read: gives a tensor, fp32 on the CPU.
        metadata: of the checkpoint.
        sources: where the weights come from, for `weights.json` and the metadata.

    Returns:
        the checkpoint's directory.

    Raises:
        ValueError: a tensor of another shape or type.
        OSError: what the file system says.
    """
    import torch

    path = run / "checkpoints" / step_name(step)
    path.mkdir(parents=True)
    shards = []
    for name, shape in shapes.items():
        whole = ShardedShape(name, shape, shape)
        nothing = torch.empty(whole.local_elements, dtype=torch.float32, device="meta")
        shards.append(StateShard(whole, 0, whole.local_elements, {MASTER: nothing}))
    plan, entries = plan_part(shards, 0), []
    with (path / plan.file).open("wb", buffering=0) as file:
        write_all(file.fileno(), memoryview(plan.header))
        for entry in plan.entries:
            tensor = read(entry.name)
            if tensor.dtype != torch.float32 or tuple(tensor.shape) != entry.global_shape:
                raise ValueError(f"{entry.name} is {tensor.dtype} {tuple(tensor.shape)}, not {entry.global_shape}")
            data = tensor.contiguous().view(-1).numpy().data.cast("B")
            write_all(file.fileno(), data)
            start_writing_back(file.fileno(), entry.offsets[MASTER], len(data))
            entries.append(replace(entry, hashes={MASTER: hash_hex(data)}))
            del tensor, data
        os.fsync(file.fileno())
    announce_part(plan, entries, path)
    name = f"{part_name(0)}.json"
    raw = {name: read_part_manifest(path, name)}
    told = encode_metadata({**metadata, HOLDS: "weights", "sources": list(sources)})
    manifest = Manifest(step, {name: hash_hex(raw[name])}, plan.file_bytes, told)
    join_parts(decode_parts(manifest, raw))
    (path / MANIFEST).write_bytes(manifest.encode())
    (run / RECORD_FILE).write_text(json.dumps({HOLDS: "weights", "sources": list(sources)}, indent=2) + "\n", "utf-8")
    return path


def needed_bytes(num_parameters: int) -> int:
    """Bytes that such a checkpoint takes."""
    return estimated_bytes(num_parameters, 0)
