"""Small trainings of adapters, and what they changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from tests.finetune.finetune_tags import tag_config
from tests.finetune.finetune_texts import classify_config

SHORT: dict[str, Any] = {
    "duration": "6 steps",
    "batch_size": 16,
    "log_interval": 1,
    "tensorboard": False,
    "evaluate_every": "3 steps",
}
OPTIMIZER: dict[str, Any] = {"lr": 2e-2, "schedule": "constant"}
WITHOUT_SPECIAL_TOKENS = {"config": {"objective": {"name": "span_corruption"}}}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "r": 4, "dropout": 0.1},
    "rslora": {"name": "lora", "r": 4, "rslora": True, "target_modules": "all-linear"},
    "dora": {"name": "lora", "r": 4, "dora": True},
    "pissa": {"name": "lora", "r": 4, "start": "pissa"},
    "ia3": {"name": "ia3"},
    "houlsby": {"name": "bottleneck", "size": 4, "placement": "houlsby"},
    "prefix": {"name": "prefix", "virtual_tokens": 4},
    "prompt": {"name": "prompt", "virtual_tokens": 4},
}


def settings(root: Path, kind: str, output: str, method: dict[str, Any], **changes: Any) -> TaskConfig:
    fields = {"training": SHORT, "optimizer": OPTIMIZER, "method": method} | changes
    if kind == "tag":
        return tag_config(root, output, **fields)
    if kind in ("seq2seq", "gpt"):
        more: dict[str, Any] = {
            "output": root / output,
            "model": root / ("t5" if kind == "seq2seq" else "run"),
            "data": {"train_texts": str(root / "pairs.jsonl"), "source_field": "src", "max_target_tokens": 16},
            "generation": {"num_beams": 2, "max_new_tokens": 4},
        }
        return Seq2SeqConfig.model_validate(more | fields)
    if kind in ("bert", "pooled"):
        fields["model"] = root / kind
    return classify_config(root, output, baselines=[], **fields)


def train(config: TaskConfig) -> TaskResult:
    result = run_task(config, lambda line: None)
    assert result is not None
    return result


def changed(root: Path, kind: str, folder: Path) -> set[str]:
    """Names of the weights of a saved model that are not those that were pretrained."""
    weights = load_file(folder / "model.safetensors")
    name = {"seq2seq": "t5", "bert": "bert", "pooled": "pooled"}.get(kind, "run")
    pretrained = read_pretrained(root / name).tensors
    return {key for key in weights if key not in pretrained or not torch.equal(weights[key], pretrained[key])}
