"""What `stats --seq-length` says of a corpus is what the samples are that pretraining makes of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pretrain_data_corpora import random_lengths, run_config, write_corpus

from data_prep.corpus import Corpus
from data_prep.corpus_tools.packing import Packing
from pretrain.data.run_data import RunData

SEQ_LENGTH = 64


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of 0 to 59 tokens, and some of up to 799."""
    lengths = random_lengths(3000) + random_lengths(60, seed=1, at_most=800)
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, shards=3, repeat_tokens=1000)


def test_packed_samples_are_those_of_pretraining(tmp_path: Path, corpus: Path) -> None:
    opened = Corpus.open(corpus)
    packing = Packing.of(opened, SEQ_LENGTH)
    split = [1.0, 0.0, 0.0]
    train = RunData.open(run_config(tmp_path, {"train": str(corpus), "split": split}, seq_length=SEQ_LENGTH)).train
    lengths = np.concatenate([shard.document_lengths for shard in opened.shards])
    lengths = lengths[lengths > 0]
    assert packing.packed_samples == train.num_samples_per_epoch
    assert (packing.documents, packing.tokens) == (len(lengths), lengths.sum())
    # A sample has one token more than it predicts, which the next one begins with: it is no part of this one.
    places: Counter[tuple[str, int]] = Counter()
    parts = 0
    for number in range(train.num_samples_per_epoch):
        left = SEQ_LENGTH
        for origin in train.provenance(number):
            if left > 0:
                places[str(origin.shard), origin.document] += 1
                parts += 1
            left -= origin.num_tokens
    of_place = {
        (str(shard.prefix), number): int(length)
        for shard in opened.shards
        for number, length in enumerate(shard.document_lengths)
    }
    cut = [of_place[place] for place, count in places.items() if count > 1]
    # Each border cuts or not by itself, nearly: three standard deviations, and one for the border of the epoch.
    allowed = 3 * math.sqrt(packing.packed_samples) + 1
    assert abs(packing.cut_documents - len(cut)) < allowed < packing.cut_documents / 5
    assert abs(packing.parts - parts) < allowed
    assert abs(packing.cut_tokens / packing.tokens - sum(cut) / lengths.sum()) < 0.02
    assert all(count > 1 for place, count in places.items() if of_place[place] > 2 * SEQ_LENGTH)


def test_documents_apart(corpus: Path) -> None:
    packing = Packing.of(Corpus.open(corpus), SEQ_LENGTH)
    lengths = np.concatenate([shard.document_lengths for shard in Corpus.open(corpus).shards]).tolist()
    rows = [row for length in lengths for row in [SEQ_LENGTH] * (length // SEQ_LENGTH) + [length % SEQ_LENGTH] if row]
    assert packing.apart_samples == len(rows)
    assert packing.apart_padding == pytest.approx(sum(SEQ_LENGTH - row for row in rows) / (len(rows) * SEQ_LENGTH))
    fitting = [length for length in lengths if 0 < length <= SEQ_LENGTH]
    assert (packing.fitting_documents, packing.fitting_tokens) == (len(fitting), sum(fitting))


def test_the_command_shows_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from data_prep.commands.corpus_commands import stats_command

    path = write_corpus(tmp_path / "c", [4, 8, 0, 20, 8], shards=2)
    counted = tmp_path / "stats.json"
    stats_command(path / "shard-0", json=counted, seq_length=8)
    assert json.loads(counted.read_text())["packing"] == {
        "seq_length": 8,
        "documents": 2,
        "tokens": 12,
        "fitting_documents": 2,
        "fitting_tokens": 12,
        "cut_documents": pytest.approx(3 / 8 + 7 / 8),
        "cut_tokens": pytest.approx(4 * 3 / 8 + 8 * 7 / 8),
        "parts": pytest.approx(2 + 3 / 8 + 7 / 8),
        "apart_samples": 2,
        "packed_samples": 2,
        "apart_padding": pytest.approx(0.25),
        "documents_per_sample": pytest.approx((2 + 10 / 8) / 2),
    }
    said = capsys.readouterr().out
    assert "samples of 8 tokens" in said and "2 samples, 25.0% padding" in said
    stats_command(path / "shard-1", json=counted)
    assert "packing" not in json.loads(counted.read_text())
