"""A pretraining run's output directory with random weights, as pretraining would leave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data_prep.tokenizer import Tokenizer
from pretrain.checkpoint.state_shards import StateShard
from pretrain.checkpoint.writer import CheckpointWriter
from pretrain.config.model import ModelConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.parallel.sharded_shape import ShardedShape
from tests.finetune.finetune_oracle import random_tensors
from tests.pretrain.checkpoint.adamw_states import STATES

LLAMA = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_query_groups": 2, "ffn_hidden_size": 48}


def llama(tokenizer: Tokenizer, **changes: Any) -> GPTConfig:
    """A tiny Llama-style model for this tokenizer."""
    return GPTConfig(
        **({**LLAMA, "seq_length": 64, "vocab_size": tokenizer.vocab_size, "vocab_multiple": 64} | changes)
    )


def write_run(
    run_dir: Path,
    model: ModelConfig,
    tokenizer: Tokenizer | None,
    tensors: Mapping[str, torch.Tensor] | None = None,
    step: int = 20,
    metadata: Mapping[str, Any] | None = None,
    averages: Mapping[str, torch.Tensor] | None = None,
    rows_of_matrices: bool = False,
) -> dict[str, torch.Tensor]:
    """Write one checkpoint, with further states where asked for, and the tokenizer's copy; returns the weights."""
    tensors = dict(tensors if tensors is not None else random_tensors(model))
    shards = []
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        states = {state: tensor.reshape(-1).float() for state in STATES}
        if averages is not None:
            states["average"] = averages[name].reshape(-1).float()
        shards.append(StateShard(ShardedShape(name, shape, shape), 0, tensor.numel(), states, is_owner=True))
        if rows_of_matrices and tensor.dim() == 2:
            rows = torch.ones(len(tensor))
            by_line = ShardedShape(f"{name}@exp_avg_sq_row", tuple(rows.shape), tuple(rows.shape))
            shards.append(StateShard(by_line, 0, len(rows), {"exp_avg_sq_row": rows}, is_owner=True))
    content = {
        "step": step,
        "consumed_samples": step * 8,
        "model": model.model_dump(mode="json") | {"padded_vocab_size": model.padded_vocab_size},
        "config": {"data": {"train": [{"corpus": str(run_dir.parent / "corpus"), "weight": 1.0}]}},
        "data_fingerprint": {"train": "abc"},
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
    }
    writer = CheckpointWriter(run_dir / "checkpoints", asynchronous=False)
    writer.save(step, shards, content | dict(metadata or {}))
    writer.close()
    if tokenizer is not None:
        tokenizer.copy_to(run_dir / "tokenizer")
    return tensors
