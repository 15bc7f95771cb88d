"""Adapters on every kind of task: only they change, merged ones say the same, plain peft loads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from configs.errors import ConfigError, DataError, UserError
from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tags import tag_config, tagged, write_conll
from tests.finetune.finetune_texts import WORDS, classify_config, train_on_rank, write_texts
from tests.finetune.finetune_tokenizers import train_tokenizer

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
    "prefix": {"name": "prefix", "virtual_tokens": 4},
    "prompt": {"name": "prompt", "virtual_tokens": 4},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("methods")
    tokenizer = train_tokenizer(root / "tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    write_run(root / "run", llama(tokenizer), tokenizer)
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
    sizes |= {"seq_length": 64, "vocab_multiple": 64, "vocab_size": tokenizer.vocab_size}
    t5 = T5Config.model_validate(sizes | {"decoder_seq_length": 40})
    write_run(root / "t5", t5, tokenizer, metadata=WITHOUT_SPECIAL_TOKENS)
    write_run(root / "bert", BertConfig.model_validate(sizes), tokenizer)
    write_texts(root / "texts.jsonl", 120)
    write_conll(root / "texts.conll", tagged(80))
    with (root / "pairs.jsonl").open("w") as file:
        for number in range(60):
            word = list(WORDS)[number % 3]
            file.write(json.dumps({"id": f"n{number}", "src": f"the {word} of {number}", "target": f"a {word}"}) + "\n")
    return root


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
    return classify_config(root, output, **({"model": root / "bert"} if kind == "bert" else {}), baselines=[], **fields)


def train(config: TaskConfig) -> TaskResult:
    result = run_task(config, lambda line: None)
    assert result is not None
    return result
