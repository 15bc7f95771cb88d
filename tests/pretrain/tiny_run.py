"""A corpus and a run small enough to train in seconds, for tests of whole runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from configs.load import load_config
from pretrain.config import RunConfig

SENTENCE = "the old ship sails over a grey cold sea while no one on deck sees its light go out again"


ENCODER_TOKENS = (
    "special_tokens.end_of_document='[SEP]'",
    "special_tokens.mask='[MASK]'",
    "special_tokens.classification='[CLS]'",
    "special_tokens.separator='[SEP]'",
)
FIM_TOKENS = tuple(f"special_tokens.fim_{part}='<fim_{part}>'" for part in ("prefix", "suffix", "middle"))
BERT: dict[str, Any] = {
    "model__name": "bert",
    "model__num_layers": 2,
    "objective__name": "masked_pairs",
    "model__seq_length": 32,
}
"""Changes of `tiny_config` that make it a BERT on a corpus with sentences."""


def make_corpus(
    directory: Path,
    documents: int = 400,
    *,
    sentences: bool = False,
    seed: int = 5,
    tokenizer: Path | None = None,
    special: tuple[str, ...] = (),
) -> Path:
    """A tokenized corpus of made-up sentences; returns its directory.

    Args:
        directory: where to.
        documents: how many.
        sentences: whether it keeps sentence boundaries, and its vocabulary has an encoder's special tokens.
        seed: decides the sentences.
        tokenizer: of another corpus; None: one of its own is made, in `tok` beside the corpus.
        special: what more special tokens that one has, as settings of `train-tokenizer`.
    """
    from data_prep.config import TokenizeConfig, TokenizerConfig
    from data_prep.sharding.tokenization import tokenize
    from data_prep.tokenizer.training import train_tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    chance, words = random.Random(seed), SENTENCE.split()
    text = directory / "text.jsonl"
    with text.open("w", encoding="utf-8") as lines:
        for _ in range(documents):
            sentence = " ".join(chance.choices(words, k=chance.randint(5, 60)))
            if sentences:
                sentence = ". ".join(" ".join(chance.choices(words, k=chance.randint(3, 12))) for _ in range(6)) + "."
            lines.write(json.dumps({"text": sentence}) + "\n")
    special = ENCODER_TOKENS if sentences else special
    if tokenizer is None:
        tokenizer = directory / "tok"
        vocabulary = [f"input={text}", f"output={tokenizer}", "vocab_size=300", *special]
        train_tokenizer(load_config(TokenizerConfig, None, vocabulary))
    given = [f"input={text}", f"tokenizer={tokenizer}", f"output={directory}/corpus"]
    if sentences:
        given += ["sentences=true", "append_end_of_document=false"]
    tokenize(load_config(TokenizeConfig, None, given))
    return directory / "corpus"


def tiny_config(output_dir: Path, corpus: Path, **changes: Any) -> RunConfig:
    """A run of a few seconds; `changes` are overrides, with `__` for the dot."""
    settings: dict[str, Any] = {
        "output": output_dir,
        "model.num_layers": 2,
        "model.hidden_size": 32,
        "model.num_attention_heads": 2,
        "model.seq_length": 16,
        "model.hidden_dropout": 0.1,
        "model.attention_dropout": 0.1,
        "data.train": corpus,
        "data.split": "[0.9,0.05,0.05]",
        "training.duration": "12 steps",
        "training.micro_batch_size": 2,
        "training.global_batch_size": 8,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
        "optimizer.warmup": "4 steps",
        "evaluation.interval": "6 steps",
        "evaluation.batches": 2,
        "checkpoint.interval": "3 steps",
        "monitor.log_interval": 1,
        "monitor.tensorboard": "false",
        "monitor.peak_tflops": 1.0,
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(RunConfig, None, [f"{key}={value}" for key, value in settings.items()])


def train_records(output_dir: Path) -> list[dict[str, Any]]:
    """What each step was, from the metrics file: the parts that must not depend on when it ran."""
    keys = ("step", "loss", "grad_norm", "learning_rate", "consumed_samples", "param_norm", "skipped_total")
    lines = (output_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [{key: record[key] for key in keys} for record in records if record["kind"] == "train"]


def states_differ(one: Path, other: Path) -> list[str]:
    """Names of the tensors whose master weights or optimizer states are not bitwise equal in two checkpoints."""
    import torch

    from pretrain.checkpoint.reader import CheckpointReader

    a, b = CheckpointReader(one), CheckpointReader(other)
    stored = [{name: set(source.states) for name, source in reader.index.sources.items()} for reader in (a, b)]
    assert stored[0] == stored[1]
    return [
        f"{state} of {name}"
        for name, states in stored[0].items()
        for state in states
        if not torch.equal(a.tensor(name, state), b.tensor(name, state))
    ]
