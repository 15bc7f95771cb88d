"""Pretrained models of each kind that adapters are tried on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tags import tagged, write_conll
from tests.finetune.finetune_texts import WORDS, write_texts
from tests.finetune.finetune_tokenizers import train_tokenizer
from tests.finetune.methods.adapted_runs import WITHOUT_SPECIAL_TOKENS


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("methods")
    tokenizer = train_tokenizer(root / "tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    write_run(root / "run", llama(tokenizer), tokenizer)
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
    sizes |= {"seq_length": 64, "vocab_multiple": 64, "vocab_size": tokenizer.vocab_size}
    t5 = T5Config.model_validate(sizes | {"decoder_seq_length": 40})
    write_run(root / "t5", t5, tokenizer, metadata=WITHOUT_SPECIAL_TOKENS)
    write_run(root / "bert", BertConfig.model_validate(sizes | {"pooler": False}), tokenizer)
    write_run(root / "pooled", BertConfig.model_validate(sizes), tokenizer)
    write_texts(root / "texts.jsonl", 120)
    write_conll(root / "texts.conll", tagged(80))
    with (root / "pairs.jsonl").open("w") as file:
        for number in range(60):
            word = list(WORDS)[number % 3]
            file.write(json.dumps({"id": f"n{number}", "src": f"the {word} of {number}", "target": f"a {word}"}) + "\n")
    return root
