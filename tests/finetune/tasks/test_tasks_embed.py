"""Sentence vectors: the loss and the figures by hand, what is learned, and what transformers alone reads."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from finetune.predict_command import predict_command
from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks.embed import EmbedTask, TogetherTexts
from finetune.tasks.embed_config import EmbedConfig
from finetune.tasks.embedding_texts import contrastive_losses, retrieval_figures
from pretrain.models.encoder.bert_config import BertConfig
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

PAIRS = {"error": "raises", "value": "returns", "file": "opens", "list": "sorts", "key": "looks up", "text": "prints"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embed")
    generator = random.Random(0)
    fill = ["the", "a", "of", "this", "class", "method", "module"]
    with (root / "pairs.jsonl").open("w") as file:
        for number in range(160):
            key = generator.choice(list(PAIRS))
            words = [*generator.choices(fill, k=generator.randint(1, 4)), key]
            generator.shuffle(words)
            text, positive = " ".join(words), PAIRS[key]
            file.write(json.dumps({"id": f"n{number}", "text": text, "positive": positive}) + "\n")
    tokenizer = train_tokenizer(root / "tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64}
    bert = BertConfig(**sizes, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    write_run(root / "bert", bert, tokenizer)  # type: ignore[arg-type]
    write_run(root / "gpt", llama(tokenizer), tokenizer)
    return root


def config(root: Path, model: str, output: str, **changes: Any) -> EmbedConfig:
    fields: dict[str, Any] = {
        "output": root / output,
        "model": root / model,
        "data": {"train_texts": str(root / "pairs.jsonl"), "split": [0.7, 0.15, 0.15]},
        "training": {"duration": "10 epochs", "batch_size": 16},
        "optimizer": {"lr": 3e-3, "schedule": "linear", "warmup": "4 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return EmbedConfig.model_validate(fields)


def train(root: Path, model: str, output: str, **changes: Any) -> TaskResult:
    result = run_task(config(root, model, output, **changes), lambda line: None)
    assert result is not None
    return result


def test_the_loss_by_hand() -> None:
    angles = [0.0, 1.0, 2.0, 0.1, 1.5, 2.0, 0.4, 0.9, 2.5]
    rows = torch.tensor([[math.cos(a), math.sin(a)] for a in angles])
    # The second example has the same right text as the third; the last negative is the first text itself.
    losses = contrastive_losses(rows, [0, 1, 2, 3, 4, 4, 5, 6, 0], 3, 0.5)
    cosines = (rows[:3] @ rows[3:].T / 0.5).exp().tolist()
    first = -math.log(cosines[0][0] / sum(cosines[0][:5]))
    second = -math.log(cosines[1][1] / (sum(cosines[1]) - cosines[1][2]))
    assert losses.tolist()[:2] == pytest.approx([first, second], rel=1e-5)


def test_what_fills_a_place_is_no_wrong_answer(root: Path) -> None:
    """A smaller last batch repeats an example in the places that are left: the losses of the others stay theirs."""
    task, cpu = EmbedTask(config(root, "bert", "none")), torch.device("cpu")
    texts = [TogetherTexts(n, n, p, f"a {n}", n) for n, p in zip(("error", "value", "file"), ("list", "key", "text"))]
    pretrained = read_pretrained(root / "bert")
    part, network = task.encode(pretrained, texts), task.network(pretrained)
    full = task.losses(network, part, [0, 1, 2, 1, 1, 1], cpu)
    assert torch.allclose(full[:3], task.losses(network, part, [0, 1, 2], cpu), rtol=1e-4) and full[0] > 0.1


def test_a_text_fills_a_context_of_any_length(root: Path, tmp_path: Path) -> None:
    """Padding goes no further than the longest text: there may be no position behind it."""
    tokenizer = load_tokenizer(root / "tok")
    sizes: dict[str, Any] = {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 61}
    bert = BertConfig(**sizes, vocab_size=tokenizer.vocab_size, vocab_multiple=64)
    write_run(tmp_path / "bert", bert, tokenizer)  # type: ignore[arg-type]
    task, pretrained = EmbedTask(config(root, "bert", "none")), read_pretrained(tmp_path / "bert")
    part = task.encode(pretrained, [TogetherTexts("a", "class " * 80, "a", None, "a")])
    assert len(part.rows[0]) == 61
    assert task.losses(task.network(pretrained), part, [0], torch.device("cpu")).shape == (1,)


def test_figures_by_hand() -> None:
    turned = [0.0, 1.0, 2.0]
    texts = np.array([[math.cos(a), math.sin(a)] for a in turned], dtype=np.float32)
    right = np.array([[math.cos(a), math.sin(a)] for a in (0.1, 2.1, 1.6)], dtype=np.float32)
    found = retrieval_figures(texts, right, [0, 1, 2, 3, 4, 5], 1.0)
    # The texts at 1 and 2 are each nearer to what belongs to the other.
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3) and found["recall_at_1"] == pytest.approx(1 / 3)
    losses = contrastive_losses(torch.from_numpy(np.concatenate([texts, right])), [0, 1, 2, 3, 4, 5], 3, 1.0)
    assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    alike = np.ones((4, 1), dtype=np.float32)
    assert retrieval_figures(alike, alike, range(8), 1.0)["mrr"] == 0.25


@pytest.mark.slow
def test_an_encoder_learns_and_transformers_reads_it(root: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    result = train(root, "bert", "bert-out")
    figures, before = result.test["fine-tuned"], result.test["the pretrained model"]
    assert figures["mrr"] > 0.8 > before["mrr"] + 0.1 and "TF-IDF" in result.test
    folder = root / "bert-out"
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    told = [json.loads(line) for line in (folder / "predictions-test.jsonl").open()]
    texts = {row["id"]: row["text"] for row in map(json.loads, (root / "pairs.jsonl").open())}
    inputs = tokenizer([texts[row["id"]] for row in told], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    assert torch.allclose(vectors, torch.tensor([row["vector"] for row in told]), atol=1e-4)
    predict_command(folder, [str(root / "pairs.jsonl")], root / "vectors.jsonl")
    again = {row["id"]: row["vector"] for row in map(json.loads, (root / "vectors.jsonl").open())}
    assert all(np.allclose(again[row["id"]], row["vector"], atol=1e-5) for row in told)


@pytest.mark.slow
def test_a_decoder_learns_with_negatives(root: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (root / "pairs.jsonl").open()]
    for row in rows:
        row["negative"] = next(text for text in PAIRS.values() if text != row["positive"])
    (tmp_path / "triples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data__train_texts": str(tmp_path / "triples.jsonl"), "data__negative_field": "negative"}
    result = train(root, "gpt", "gpt-out", **changes, baselines=["scratch"], training__zero_stage=2)
    assert result.test["fine-tuned"]["mrr"] > 0.8 and "from scratch" in result.test


def test_what_is_no_pair_is_refused(root: Path, tmp_path: Path) -> None:
    task = EmbedTask(config(root, "bert", "none"))
    part = task.encode(read_pretrained(root / "bert"), [TogetherTexts("a", "x", "y  z", None, "a")] * 2)
    assert part.same == [0, 0, 1, 1] and part.count == 2 and part.lengths == [part.lengths[0]] * 2
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="has no field 'positive'"):
        EmbedTask(config(root, "bert", "none", data__train_texts=str(tmp_path / "bad.jsonl"))).read()
    with pytest.raises(ValueError, match="2 samples or more"):
        config(root, "bert", "none", training__micro_batch_size=1)
