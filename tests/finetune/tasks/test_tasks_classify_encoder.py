"""Classification from encoders: the special tokens around a text, pooling, weights, and transformers alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import Tokenizer
from finetune.run_task import TaskResult, run_task
from pretrain.config.model import ModelConfig
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_texts import classify_config, write_texts
from tests.finetune.finetune_tokenizers import train_tokenizer

SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64}
ENCODERS: dict[str, tuple[type[Any], dict[str, Any], str]] = {
    "bert": (BertConfig, {}, "BertForSequenceClassification"),
    "bert-no-pooler": (BertConfig, {"pooler": False}, "BertForSequenceClassification"),
    "bert-pre-norm": (BertConfig, {"norm_placement": "pre"}, "MegatronBertForSequenceClassification"),
    "roberta": (RobertaConfig, {}, "RobertaForSequenceClassification"),
    "modern": (ModernEncoderConfig, {"local_window": 8}, "ModernBertForSequenceClassification"),
}
SHORT: dict[str, Any] = {
    "training__duration": "1 steps",
    "optimizer__lr": 1e-12,
    "optimizer__warmup": "0 steps",
    "baselines": [],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tok", control_symbols=symbols)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    write_texts(root / "texts.jsonl")
    for name, (declaration, changes, _) in ENCODERS.items():
        model: ModelConfig = declaration(**SIZES, vocab_size=tokenizer.vocab_size, vocab_multiple=64, **changes)
        write_run(root / name, model, tokenizer)  # type: ignore[arg-type]
    return root


def train(root: Path, model: str, output: str, **changes: Any) -> TaskResult:
    result = run_task(classify_config(root, output, model=root / model, **changes), lambda line: None)
    assert result is not None
    return result


@pytest.mark.parametrize("name", ["bert", *(pytest.param(n, marks=pytest.mark.slow) for n in ENCODERS if n != "bert")])
def test_from_an_encoder_to_a_directory_that_transformers_loads(root: Path, tokenizer: Tokenizer, name: str) -> None:
    """With a learning rate of next to nothing, the body is that of the checkpoint."""
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from finetune.pretrained import read_pretrained

    train(root, name, f"out-{name}", **SHORT)
    folder = root / f"out-{name}"
    model, codec = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == ENCODERS[name][2]
    # The body, and of the heads only what transformers itself would take over.
    saved, pretrained = load_file(folder / "model.safetensors"), read_pretrained(root / name).tensors
    same = {key for key in saved if key in pretrained and torch.allclose(saved[key], pretrained[key], atol=1e-6)}
    new = {key.rpartition(".")[0] for key in set(saved) - same}
    expected = {
        "bert": {"classifier"},
        "bert-no-pooler": {"bert.pooler.dense", "classifier"},
        "bert-pre-norm": {"classifier"},
        "roberta": {"classifier.dense", "classifier.out_proj"},
        "modern": {"classifier"},
    }
    assert new == expected[name]
    # Called plainly, the saved tokenizer gives what training read.
    first, last = tokenizer.role("classification"), tokenizer.role("separator")
    assert codec("a class").input_ids == [first, *tokenizer.encode("a class"), last]
    assert codec("<|mask|>").input_ids == [first, *tokenizer.encode("<|mask|>"), last]
    assert "token_type_ids" not in codec("a") or name.startswith("bert")
    texts = {row["id"]: row["text"] for row in map(json.loads, (root / "texts.jsonl").open())}
    told = [json.loads(line) for line in (folder / "predictions-test.jsonl").open()]
    with torch.no_grad():
        together = model(**codec([texts[row["id"]] for row in told], return_tensors="pt", padding=True)).logits
    for row, found in zip(told, together.softmax(-1).tolist(), strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(found, abs=1e-4)


@pytest.mark.slow
def test_an_encoder_learns(root: Path) -> None:
    result = train(root, "modern", "learned", training__zero_stage=2, baselines=["majority"])
    assert result.test["fine-tuned"]["accuracy"] > 0.9 > result.test["most frequent label"]["accuracy"] + 0.3


@pytest.mark.slow
def test_from_an_exported_encoder_as_from_the_run(root: Path, tokenizer: Tokenizer) -> None:
    from finetune.huggingface.tokenizer import role_ids
    from finetune.networks import save_network
    from finetune.pretrained import read_pretrained
    from pretrain.models.huggingface.transformers_model import model_from_tensors

    for name in ("bert", "roberta"):
        start = read_pretrained(root / name)
        folder = root / f"{name}-hf"
        folder.mkdir()
        theirs = model_from_tensors(start.hf_config, start.tensors)
        save_network(folder, theirs, dict(theirs.named_parameters()))
        again = read_pretrained(folder, tokenizer.model_path.parent)
        assert again.is_encoder and again.context == start.context == SIZES["seq_length"]
        assert again.hf_config["pad_token_id"] == role_ids(tokenizer).pad
        rows = []
        for model in (name, f"{name}-hf"):
            changes = SHORT | {"tokenizer_dir": tokenizer.model_path.parent}
            train(root, model, f"from-{model}", **changes)
            rows.append((root / f"from-{model}" / "predictions-test.jsonl").read_text())
        assert rows[0] == rows[1]


@pytest.mark.slow
def test_the_mean_of_all_tokens_where_there_is_a_class_for_it(root: Path, tokenizer: Tokenizer) -> None:
    train(root, "modern", "mean", pooling="mean", **SHORT)
    assert json.loads((root / "mean" / "config.json").read_text())["classifier_pooling"] == "mean"
    train(root, "modern", "first", pooling="first", **SHORT)
    assert json.loads((root / "first" / "config.json").read_text())["classifier_pooling"] == "cls"
    texts = [(root / name / "predictions-test.jsonl").read_text() for name in ("mean", "first")]
    assert texts[0] != texts[1]
    write_run(root / "gpt", llama(tokenizer), tokenizer)
    for model, pooling, possible in (
        ("bert", "last", "auto or first or mean"),
        ("modern", "last", "auto or first or mean"),
        ("gpt", "first", "auto or last"),
    ):
        with pytest.raises(ConfigError, match=f"pooling: is {pooling}, which .* cannot do\n  expected: {possible}"):
            train(root, model, "wrong", pooling=pooling)
    assert not (root / "wrong").exists()


@pytest.mark.slow
def test_a_classifier_by_the_first_word_piece_is_warned_of(
    root: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModernEncoderConfig(**SIZES, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    metadata = {"config": {"objective": {"name": "masked", "add_special_tokens": False}}}
    write_run(root / "plain", model, tokenizer, metadata=metadata)  # type: ignore[arg-type]
    train(root, "plain", "out-plain-first", pooling="first", **SHORT)
    expected = f"warning: {root / 'plain'} was pretrained without special tokens"
    assert capsys.readouterr().err.count(expected) == 1
    train(root, "plain", "out-plain", **SHORT)
    assert "warning" not in capsys.readouterr().err


MEANS = ("bert", "bert-pre-norm", "roberta")
LOADED_ALONE = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, texts = sys.argv[1], json.loads(sys.argv[2])
try:
    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise AssertionError("another class took the weights")
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
codec = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
judge = pipeline("text-classification", folder, trust_remote_code=True, top_k=None, device="cpu", truncation=True)
with torch.no_grad():
    together = model(**codec(texts, return_tensors="pt", padding=True, truncation=True)).logits.softmax(-1)
alone = [{each["label"]: each["score"] for each in judge([text])[0]} for text in texts]
print(json.dumps([together.tolist(), alone]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", MEANS)
def test_the_mean_by_a_class_of_ours(root: Path, name: str) -> None:
    from finetune.networks import load_network
    from finetune.pretrained import read_pretrained

    train(root, name, f"mean-{name}", pooling="mean", **SHORT)
    folder = root / f"mean-{name}"
    model = load_network("AutoModelForSequenceClassification", folder)
    assert type(model).__name__ == ENCODERS[name][2].replace("For", "MeanPoolingFor")
    body, pretrained = getattr(model, model.base_model_prefix), read_pretrained(root / name).tensors
    for key, tensor in body.state_dict().items():
        assert torch.allclose(tensor, pretrained[f"{model.base_model_prefix}.{key}"], atol=1e-6), key
    ids_BS, mask_BS = torch.tensor([[1, 5, 6, 0, 0], [1, 7, 8, 9, 10]]), torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    with torch.no_grad():
        hidden_BSH = body(ids_BS, attention_mask=mask_BS)[0]
        found = model(input_ids=ids_BS, attention_mask=mask_BS, labels=torch.tensor([1, 0]))
        means_BH = torch.stack([hidden_BSH[0, :3].mean(0), hidden_BSH[1].mean(0)])
        assert torch.allclose(found.logits, model.classifier(means_BH), atol=1e-6)
        assert torch.allclose(model(input_ids=ids_BS[:1, :3]).logits, found.logits[:1], atol=1e-5)
        expected = torch.nn.functional.cross_entropy(found.logits, torch.tensor([1, 0]))
        assert torch.allclose(found.loss, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEANS)
def test_the_mean_learns_and_is_read_by_transformers_alone(root: Path, name: str, tmp_path: Path) -> None:
    fields = {"training__zero_stage": 2, "training__duration": "12 epochs", "baselines": ["majority"]}
    found = train(root, name, f"taught-{name}", pooling="mean", seed=1, **fields)
    assert found.test["fine-tuned"]["accuracy"] > 0.8 > found.test["most frequent label"]["accuracy"] + 0.3
    folder = root / f"taught-{name}"
    command = found.task.next_command(folder)
    assert command is not None and "trust_remote_code=True" in command
    texts = {row["id"]: row["text"] for row in map(json.loads, (root / "texts.jsonl").open())}
    told = [json.loads(line) for line in (folder / "predictions-test.jsonl").open()]
    given = json.dumps([texts[row["id"]] for row in told])
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": ""}
    read = subprocess.run(
        [sys.executable, "-c", LOADED_ALONE, str(folder), given],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=300,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr
    together, alone = json.loads(read.stdout.splitlines()[-1])
    for row, one, other in zip(told, together, alone, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(one, abs=1e-4)
        assert other == pytest.approx(row["probabilities"], abs=1e-4)


def test_code_in_a_models_directory_is_never_run_and_nobody_is_asked(root: Path, tmp_path: Path) -> None:
    from pretrain.models.huggingface.transformers_model import load_config

    (tmp_path / "theirs.py").write_text("raise SystemExit('code of the directory was run')\n")
    fields = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="is not a usable config"):
        load_config(tmp_path)


def test_a_tokenizer_without_the_tokens_of_encoders(root: Path, tmp_path: Path) -> None:
    plain = train_tokenizer(tmp_path / "tok")
    model = BertConfig(**SIZES, vocab_size=plain.vocab_size, vocab_multiple=64)
    write_run(tmp_path / "run", model, plain)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"has no classification token\n  expected: an encoder's, such as \[CLS\]"):
        run_task(classify_config(root, "wrong", model=tmp_path / "run"), lambda line: None)
    with pytest.raises(ConfigError, match=r"data.max_tokens: is 2\n  expected: at least 3"):
        train(root, "bert", "wrong", data__max_tokens=2)


def test_texts_are_cut_between_the_special_tokens(root: Path, tokenizer: Tokenizer) -> None:
    from transformers import pipeline

    train(root, "bert", "cut", data__max_tokens=8, **SHORT)
    texts = {row["id"]: row["text"] for row in map(json.loads, (root / "texts.jsonl").open())}
    judge = pipeline("text-classification", str(root / "cut"), truncation=True, top_k=None, device="cpu")
    told = [json.loads(line) for line in (root / "cut" / "predictions-test.jsonl").open()]
    long = [row for row in told if len(texts[row["id"]].split()) > 10]
    assert len(long) > 3
    for row in long:
        found = {each["label"]: each["score"] for each in judge([texts[row["id"]]])[0]}
        assert found == pytest.approx(row["probabilities"], abs=1e-5)
