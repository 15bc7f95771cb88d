"""The copy from a GPU runs beside later work, and what is saved is what was there when the save began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faked_layouts import SMALL_GPT, FakeLayout, random_state, shards_of

from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.state_shards import StateShard
from pretrain.checkpoint.writer import CheckpointWriter
from tests.pretrain.checkpoint.adamw_states import STATES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none"),
]


def shards(seed: int, device: str) -> list[StateShard]:
    made = shards_of(FakeLayout(), 0, random_state(SMALL_GPT, seed))
    return [
        replace(shard, tensors={state: tensor.to(device) for state, tensor in shard.tensors.items()}) for shard in made
    ]


def test_a_save_holds_what_the_gpu_held_at_its_call(tmp_path: Path) -> None:
    device = f"cuda:{torch.cuda.device_count() - 1}"
    torch.cuda.set_device(device)
    writer = CheckpointWriter(tmp_path)
    matrix = torch.rand(4096, 4096, device=device)
    for step in (10, 20):
        held, later = shards(step - 1, device), shards(step, device)
        # The values that count are still being computed when the save begins ...
        for _ in range(20):
            matrix = (matrix @ matrix).clamp_(0, 1)
        for shard, new in zip(held, later, strict=True):
            for state in STATES:
                shard.tensors[state].copy_(new.tensors[state] + 0 * matrix.flatten()[0])
        writer.save(step, held, {"step": step})
        # ... and the next batch's work goes on beside the copy.
        for _ in range(20):
            matrix = (matrix @ matrix).clamp_(0, 1)
        writer.wait_for_copy()
        for shard in held:
            for state in STATES:
                shard.tensors[state].fill_(float("nan"))
        writer.wait_all_ranks()
        loaded, expected = shards(0, device), shards(step, device)
        load_checkpoint(tmp_path, loaded)
        for one, other in zip(loaded, expected, strict=True):
            for state in STATES:
                assert torch.equal(one.tensors[state], other.tensors[state])
    writer.close()
