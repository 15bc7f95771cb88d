"""What the ranks of a test do: hold the shards of a faked layout, save them, load them, compare."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import torch
import torch.distributed as dist
from faked_layouts import SMALL_GPT, FakeLayout, assert_shards_equal, random_state, shards_of

from configs.errors import CheckpointError, ConfigError
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.writer import CheckpointWriter
from tests.distributed import run_ranks as run_any_ranks
from tests.pretrain.checkpoint.adamw_states import STATES

FULL = FakeLayout(tensor=2, pipeline=1, data=2, zero=3)
PAIR = FakeLayout(tensor=1, pipeline=2, data=1, zero=1)

run_ranks = functools.partial(run_any_ranks, preload=("pretrain.checkpoint.loader", "pretrain.checkpoint.writer"))


def my_shards(layout: FakeLayout, seed: int):
    return shards_of(layout, dist.get_rank(), random_state(SMALL_GPT, seed))


def empty_shards(layout: FakeLayout):
    nothing = {s: {p.name: torch.full(p.shape, math.nan) for p in SMALL_GPT} for s in STATES}
    return shards_of(layout, dist.get_rank(), nothing)


def save_steps(root: Path, layout: FakeLayout, steps: list[int], asynchronous: bool, **options) -> list[str]:
    writer = CheckpointWriter(root, asynchronous=asynchronous, **options)
    for step in steps:
        shards = my_shards(layout, seed=step)
        stall = writer.save(step, shards, {"step": step, "consumed_samples": 8 * step})
        assert stall.total_s >= stall.agree_s > 0
        writer.wait_for_copy()
        for shard in shards:
            # The optimizer goes on: what is saved is what was there.
            for state in STATES:
                shard.tensors[state].fill_(math.nan)
    writer.wait()
    writer.wait_all_ranks()
    names = sorted(path.name for path in root.iterdir())
    dist.barrier()
    writer.close()
    return names


def load_and_compare(root: Path, layout: FakeLayout, seed: int, **options) -> dict:
    shards = empty_shards(layout)
    metadata = load_checkpoint(root, shards, **options)
    assert_shards_equal(shards, my_shards(layout, seed))
    return metadata


def expect_error(function, *arguments) -> tuple[str, str]:
    try:
        function(*arguments)
    except (CheckpointError, ConfigError) as error:
        return type(error).__name__, str(error)
    return "none", ""
