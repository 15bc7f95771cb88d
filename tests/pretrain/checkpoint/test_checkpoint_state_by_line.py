"""What an optimizer keeps per row stands apart in a checkpoint, and whoever wants weights finds weights alone."""

from __future__ import annotations

from pathlib import Path

import torch

from pretrain.checkpoint.index import Index
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.checkpoint.state_shards import StateShard
from pretrain.models.gpt.config import GPTConfig
from pretrain.parallel.sharded_shape import ShardedShape
from pretrain.starting.checkpoint_source import CheckpointSource
from tests.finetune.finetune_runs import LLAMA, write_run

MODEL = GPTConfig(**LLAMA, seq_length=16, vocab_size=32, vocab_multiple=32)  # type: ignore[arg-type]


def test_weights_are_read_beside_states_of_rows(tmp_path: Path) -> None:
    tensors = write_run(tmp_path, MODEL, None, rows_of_matrices=True)
    reader = CheckpointReader(tmp_path)
    assert any("@exp_avg_sq_row" in name for name in Index.open(reader.path).sources)
    assert sorted(reader.names()) == sorted(tensors)
    source = CheckpointSource(tmp_path)
    assert sorted(source.names()) == sorted(tensors) and source.find_damage(0, 1) == []
    shapes = {name: ShardedShape(name, tuple(t.shape), tuple(t.shape)) for name, t in tensors.items()}
    wanted = [
        StateShard(shapes[name], 0, tensor.numel(), {"master": torch.zeros(tensor.numel())})
        for name, tensor in tensors.items()
    ]
    load_checkpoint(tmp_path / "checkpoints", wanted)
    for shard, (name, tensor) in zip(wanted, tensors.items(), strict=True):
        assert torch.equal(shard.tensors["master"], tensor.reshape(-1)), name
