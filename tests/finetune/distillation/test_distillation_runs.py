"""Small networks that learn from larger ones: closer to them than without, the same after a kill and on any ranks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import ConfigError
from data_prep.tokenizer import Tokenizer
from finetune.language_networks import language_network
from finetune.pretrained import read_pretrained
from finetune.run_task import run_task
from finetune.tasks.distill_config import DistillConfig
from pretrain.models.encoder.bert_config import BertConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tags import tag_config, tagged, write_conll
from tests.finetune.finetune_texts import classify_config, train_on_rank, write_texts
from tests.finetune.finetune_tokenizers import train_tokenizer

pytestmark = pytest.mark.slow
PRELOAD = ("deepspeed", "transformers")
SHORT: dict[str, Any] = {
    "training__duration": "8 steps",
    "training__evaluate_every": "4 steps",
    "baselines": [],
    "data__max_train_samples": 100,
    "data__max_eval_samples": 20,
}


def bert(tokenizer: Tokenizer, width: int, layers: int) -> BertConfig:
    return BertConfig(
        num_layers=layers,
        hidden_size=width,
        num_attention_heads=4,
        seq_length=64,
        vocab_size=tokenizer.vocab_size,
        vocab_multiple=64,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("distilled")
    tokenizer = train_tokenizer(root / "tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    write_run(root / "run", bert(tokenizer, 32, 4), tokenizer)  # type: ignore[arg-type]
    write_run(root / "small", bert(tokenizer, 16, 2), tokenizer)  # type: ignore[arg-type]
    write_run(root / "gpt", llama(tokenizer), tokenizer)
    write_run(root / "small-gpt", llama(tokenizer, hidden_size=16, num_layers=1, ffn_hidden_size=24), tokenizer)
    write_texts(root / "texts.jsonl")
    write_conll(root / "texts.conll", tagged(80))
    run_task(classify_config(root, "teacher", baselines=[]), lambda line: None)
    return root


def learning(root: Path, **changes: Any) -> dict[str, Any]:
    distillation = {"teacher": root / "teacher", "weight": 0.8, "hidden_weight": 0.5}
    return {**SHORT, "model": root / "small", "distillation": distillation, **changes}


def divergence(root: Path, name: str) -> float:
    """Of a language model's distributions from the teacher's, over tokens of no special meaning."""
    tokens_BS = torch.arange(10, 74).view(2, 32)
    models = [language_network(read_pretrained(root / each)).eval() for each in (name, "gpt")]
    with torch.no_grad():
        own, theirs = (model(input_ids=tokens_BS).logits.log_softmax(-1) for model in models)
    return float((theirs.exp() * (theirs - own)).sum(-1).mean())


def losses(record: dict[str, Any]) -> list[float]:
    return [value for row in record["history"] for key, value in row.items() if key.endswith("loss")]


def test_it_goes_on_bit_for_bit_and_ranks_share_the_teacher(root: Path) -> None:
    said: list[str] = []

    def stopping(line: str) -> None:
        said.append(line)
        if line.startswith("step     4/"):
            os.kill(os.getpid(), signal.SIGTERM)

    one = train_on_rank(str(root), "one", learning(root))
    with pytest.raises(SystemExit):
        run_task(classify_config(root, "again", **learning(root)), stopping)
    assert any("its layer 1 follows 2; its layer 2 follows 4" in line for line in said)
    assert train_on_rank(str(root), "again", learning(root))["history"] == one["history"]
    saved = (root / "one" / "model.safetensors").read_bytes()
    assert saved == (root / "again" / "model.safetensors").read_bytes()
    alone = train_on_rank(str(root), "alone", learning(root, distillation=None))
    assert losses(alone)[0] != losses(one)[0]
    assert len(saved) == (root / "alone" / "model.safetensors").stat().st_size  # neither teacher nor projections
    for stage in (2, 3):
        changes = learning(root, training__zero_stage=stage)
        two = run_ranks(train_on_rank, 2, str(root), f"z{stage}", changes, process_group=False, preload=PRELOAD)
        assert losses(two[0]) == pytest.approx(losses(one), rel=2e-4)


def test_a_tagger_learns_window_by_window_and_what_does_not_fit_is_refused(root: Path) -> None:
    short: dict[str, Any] = {**SHORT, "data__max_tokens": 12, "data__stride": 4, "optimizer__warmup": "0 steps"}
    run_task(tag_config(root, "tagger", **short), lambda line: None)
    teacher = {"teacher": root / "tagger", "hidden_weight": 1.0}
    result = run_task(tag_config(root, "small-tagger", **short, model=root / "small", distillation=teacher), str)
    assert result is not None and losses(result.record)
    with pytest.raises(ConfigError, match="reads windows with max_tokens 12 and not 20"):
        run_task(tag_config(root, "other", **{**short, "data__max_tokens": 20}, distillation=teacher), str)
    with pytest.raises(ConfigError, match="what the task classify wrote"):
        run_task(tag_config(root, "other", **short, distillation={"teacher": root / "teacher"}), str)
    few = learning(root, data__labels=["error", "file"])
    with pytest.raises(ConfigError, match=r"knows 3 labels and the training texts have 2; only one has \['value'\]"):
        run_task(classify_config(root, "other", **few), str)


def test_a_decoder_learns_from_a_larger_one(root: Path) -> None:
    fields: dict[str, Any] = {
        "output": root / "lm",
        "model": root / "small-gpt",
        "data": {"train_texts": str(root / "texts.jsonl"), "max_train_samples": 60, "max_eval_samples": 20},
        "distillation": {"teacher": root / "gpt", "weight": 1.0, "hidden_weight": 0.1},
        "training": {"duration": "30 steps", "log_interval": 1},
        "optimizer": {"lr": 1e-2},
    }
    result = run_task(DistillConfig.model_validate(fields), lambda line: None)
    assert result is not None
    systems = result.test
    assert {"fine-tuned", "teacher", "pretrained"} <= set(systems)
    history = [row["loss"] for row in result.record["history"] if "loss" in row]
    assert history[-1] < history[0]
    # Learnt from the teacher alone: its distributions are nearer to the teacher's than they were.
    assert divergence(root, "lm") < 0.8 * divergence(root, "small-gpt")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(root / "lm")
    assert (
        model.config.hidden_size == 16 and json.loads((root / "lm" / "distill.json").read_text())["task"] == "distill"
    )
