"""What a run sees of a corpus that grows while it trains, and between two sessions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pretrain_data_corpora import run_config

from configs.errors import CheckpointError
from data_prep.config import TokenizeConfig, TokenizerConfig
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer.training import train_tokenizer
from pretrain.data.run_data import RunData
from pretrain.resume import continued_data

SPLIT = [0.8, 0.1, 0.1]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus that `append` can add `more.txt` to."""
    for name, first in (("text.txt", 0), ("more.txt", 500)):
        lines = [f"line {number} of {number % 7} words and {number * number}" for number in range(first, first + 300)]
        (tmp_path / name).write_text("\n".join(lines))
    source = {"input": [str(tmp_path / "text.txt")], "text_documents": "line"}
    train_tokenizer(TokenizerConfig.model_validate(source | {"output": tmp_path / "tokenizer", "vocab_size": 290}))
    grow(tmp_path, "text.txt", append=False)
    return tmp_path / "corpus"


def grow(tmp_path: Path, name: str = "more.txt", append: bool = True) -> None:
    given = {"input": [str(tmp_path / name)], "text_documents": "line", "tokenizer": tmp_path / "tokenizer"}
    given |= {"output": tmp_path / "corpus", "workers": 1, "append": append, "work_unit_bytes": 4000}
    tokenize(TokenizeConfig.model_validate(given))


def test_a_run_that_has_opened_a_corpus_reads_on_what_it_held(tmp_path: Path, corpus: Path) -> None:
    shutil.copytree(corpus, tmp_path / "kept")
    running, kept = (
        RunData.open(run_config(tmp_path, {"train": str(path), "split": SPLIT})) for path in (corpus, tmp_path / "kept")
    )
    running.train.read(np.arange(3))
    grow(tmp_path)
    numbers = np.arange(600)  # several epochs
    assert np.array_equal(running.train.read(numbers).tokens, kept.train.read(numbers).tokens)
    assert np.array_equal(
        running.validation["validation"].read(np.arange(9)).tokens,
        kept.validation["validation"].read(np.arange(9)).tokens,
    )
    assert running.fingerprint == kept.fingerprint


def test_a_resume_refuses_a_corpus_that_has_grown_and_tells_what_it_accepts(tmp_path: Path, corpus: Path) -> None:
    config = run_config(tmp_path, {"train": str(corpus), "split": SPLIT})
    before = RunData.open(config)
    metadata = {
        "config": config.model_dump(mode="json"),
        "data_fingerprint": before.fingerprint,
        "tokenizer_fingerprint": before.tokenizer_fingerprint,
        "data_history": before.history.encode(),
        "step": 10,
        "consumed_samples": 80,
    }
    metadata = json.loads(json.dumps(metadata))
    grow(tmp_path)
    grown = RunData.open(config)
    with pytest.raises(CheckpointError, match=r"these would change its course\n(.|\n)*data\.train"):
        continued_data(metadata, config, grown, tmp_path)
    accepting = config.model_copy(
        update={"checkpoint": config.checkpoint.model_copy(update={"allow_changes": ["data.train"]})}
    )
    continued, accepted = continued_data(metadata, accepting, grown, tmp_path)
    assert len(accepted) == 1 and accepted[0].startswith("data.train: ")
    (told,) = [note for note in continued.notes if "from sample 80 on" in note]
    assert f"{corpus} 100.0% (grew from {corpus} after 80 samples of that, and is read from its beginning)" in told


def test_documents_keep_their_part_when_others_are_appended(tmp_path: Path, corpus: Path) -> None:
    config = run_config(tmp_path, {"train": str(corpus), "split": SPLIT})

    def places(data: RunData, part: str) -> np.ndarray:
        stream = data.train if part == "train" else {**data.validation, **data.test}[part]
        return stream.parts[0].documents.source

    before = RunData.open(config)
    grow(tmp_path)
    after = RunData.open(config)
    for part in ("train", "validation", "test"):
        old, new = places(before, part), places(after, part)
        assert np.array_equal(new[: len(old)], old) and len(new) > len(old)
