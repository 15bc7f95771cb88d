from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretrain_data_corpora import VOCAB_SIZE, random_lengths, run_config, write_corpus

from configs.errors import ConfigError, DataError
from data_prep.config import TokenizeConfig, TokenizerConfig
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer.training import train_tokenizer
from pretrain.data.evaluation_set import difference
from pretrain.data.run_data import RunData
from pretrain.data.unigram import unigram_nats

SPLIT = [0.8, 0.1, 0.1]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", random_lengths(400), shards=2)


def tokens_of(data: RunData, name: str) -> set[int]:
    stream = {"train": data.train, **data.validation, **data.test}[name]
    count = stream.num_samples or stream.num_samples_per_epoch
    samples = stream.read(np.arange(count))
    return set(samples.tokens[:, 1:][np.arange(samples.tokens.shape[1] - 1) < samples.num_tokens[:, None] - 1].tolist())


def test_opens_a_corpus_with_its_parts(tmp_path: Path, corpus: Path) -> None:
    data = RunData.open(run_config(tmp_path, {"train": str(corpus), "split": SPLIT}))
    assert (data.vocab_size, data.tokenizer_fingerprint, data.end_of_document_id) == (VOCAB_SIZE, "tokenizer-a", 3)
    assert list(data.validation) == ["validation"] and list(data.test) == ["test"]
    parts = [tokens_of(data, name) for name in ("train", "validation", "test")]
    total = sum(len(part) for part in parts)
    assert len(set.union(*parts)) == total
    assert total >= sum(random_lengths(400)) - 3
    assert not data.notes
    data.prepare(10**6)


def test_a_named_set_is_the_whole_of_another_corpus_and_the_held_out_part_of_a_training_corpus(
    tmp_path: Path, corpus: Path
) -> None:
    other = write_corpus(tmp_path / "other", [50, 50], first_token=50_000)
    config = run_config(
        tmp_path,
        {"train": str(corpus), "split": SPLIT, "validation": {"in": str(corpus), "out": str(other)}, "test": {}},
    )
    data = RunData.open(config)
    assert list(data.validation) == ["in", "out"]
    assert len(tokens_of(data, "out")) == 99
    assert tokens_of(data, "in") and not tokens_of(data, "in") & tokens_of(data, "train")
    unnamed = RunData.open(run_config(tmp_path, {"train": str(corpus), "split": SPLIT}))
    # Naming sets changes nothing about training: a run may resume with another validation.
    assert tokens_of(unnamed, "train") == tokens_of(data, "train")
    assert unnamed.fingerprint == data.fingerprint


def test_no_share_no_set(tmp_path: Path, corpus: Path) -> None:
    data = RunData.open(run_config(tmp_path, {"train": str(corpus), "split": [1.0, 0.0, 0.0]}))
    assert (data.validation, data.test) == ({}, {})


def test_evaluation_does_not_depend_on_the_seed_but_training_does(tmp_path: Path, corpus: Path) -> None:
    one, two = (RunData.open(run_config(tmp_path, {"train": str(corpus), "split": SPLIT}, seed=s)) for s in (1, 2))
    numbers = np.arange(5)
    assert np.array_equal(one.validation["validation"].samples(numbers), two.validation["validation"].samples(numbers))
    assert not np.array_equal(one.train.samples(numbers), two.train.samples(numbers))


def test_the_fingerprint_changes_with_what_decides_the_samples(tmp_path: Path, corpus: Path) -> None:
    other = write_corpus(tmp_path / "other", [90, 50], first_token=50_000)
    mixture = [{"corpus": str(corpus), "weight": 2}, {"corpus": str(other), "weight": 1}]

    def fingerprint(train: object = mixture, seq: int = 16, seed: int = 1) -> str:
        config = run_config(tmp_path, {"train": train, "split": [1.0, 0.0, 0.0]}, seq_length=seq, seed=seed)
        return json.dumps(RunData.open(config).fingerprint)

    same = [{"corpus": str(corpus), "weight": 0.6}, {"corpus": str(other), "weight": 0.3}]
    assert fingerprint() == fingerprint(same)
    changed = [fingerprint(mixture[:1]), fingerprint(mixture[::-1]), fingerprint(seq=8), fingerprint(seed=2)]
    assert len({fingerprint(), *changed}) == 5
    write_corpus(tmp_path / "other", [90, 50, 1], first_token=50_000)
    assert fingerprint() != fingerprint(mixture[:1]) and fingerprint() not in changed


def test_a_sets_fingerprint_changes_with_what_decides_its_samples_and_with_nothing_else(
    tmp_path: Path, corpus: Path
) -> None:
    other = write_corpus(tmp_path / "other", [90, 50], first_token=50_000)
    moved = write_corpus(tmp_path / "moved", [90, 50], first_token=50_000)

    def sets(validation: object = str(other), split: object = SPLIT, **rest: Any) -> dict[str, Any]:
        config = run_config(tmp_path, {"train": str(corpus), "split": split, "validation": {"v": validation}}, **rest)
        return RunData.open(config).evaluation_sets

    def fingerprint(**changes: Any) -> str:
        return sets(**changes)["v"]["fingerprint"]

    assert sets().keys() == {"v", "test"}
    same = [fingerprint(), fingerprint(validation=str(moved)), fingerprint(seed=2), fingerprint(split=[0.7, 0.2, 0.1])]
    assert len(set(same)) == 1
    # Two batches of 8 hold more than the set has, and one does not.
    assert sets(evaluation={"batches": 2})["v"]["samples"] == 9 == sets()["v"]["samples"]
    both = [str(other), {"corpus": str(corpus), "weight": 2}]
    changed = [
        fingerprint(validation=str(corpus)),
        fingerprint(validation=str(corpus), split=[0.7, 0.2, 0.1]),
        fingerprint(validation=both),
        fingerprint(validation=[str(other), str(corpus)]),
        fingerprint(seq_length=8),
        fingerprint(evaluation={"batches": 1}),
    ]
    assert len({same[0], *changed}) == 7
    short = sets(evaluation={"batches": 1})["v"]
    assert difference(sets()["v"], short) == "samples 9 -> 8"
    assert difference(sets(validation=str(corpus))["v"], sets()["v"]) == "other documents"


def test_a_small_corpus_that_has_no_held_out_documents_is_noted_or_refused(tmp_path: Path, corpus: Path) -> None:
    small = write_corpus(tmp_path / "small", [0, 100], first_token=50_000)
    data = RunData.open(run_config(tmp_path, {"train": [str(corpus), str(small)], "split": SPLIT}))
    assert len(data.notes) == 2 and "small" in data.notes[0] and "0 of 2 documents" in data.notes[0]
    with pytest.raises(DataError, match="validation part has 0 of 2 documents") as caught:
        RunData.open(run_config(tmp_path, {"train": str(small), "split": SPLIT}))
    assert "data.split (now 0.1)" in str(caught.value) and "data.validation" in str(caught.value)


def test_a_training_part_shorter_than_a_sample_is_refused_with_its_numbers(tmp_path: Path, corpus: Path) -> None:
    config = run_config(tmp_path, {"train": str(corpus)}, seq_length=100_000)
    with pytest.raises(DataError, match="a sample needs 100,001"):
        RunData.open(config)


def test_corpora_of_two_tokenizers_are_refused_with_both_fingerprints_and_paths(tmp_path: Path, corpus: Path) -> None:
    other = write_corpus(tmp_path / "other", [50, 50], tokenizer="tokenizer-b")
    with pytest.raises(DataError) as caught:
        RunData.open(run_config(tmp_path, {"train": [str(corpus), str(other)]}))
    for part in ("tokenizer-a", "tokenizer-b", str(corpus / "tokenizer"), str(other / "tokenizer")):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="tokenizer-b"):
        RunData.open(run_config(tmp_path, {"train": str(corpus), "validation": {"v": str(other)}}))


def test_a_tokenizer_that_did_not_make_the_corpus_is_refused(tmp_path: Path, corpus: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    train_tokenizer(TokenizerConfig(input=[str(text)], output=tokenizer, vocab_size=300))
    with pytest.raises(DataError, match="tokenizer-a") as caught:
        RunData.open(run_config(tmp_path, {"train": str(corpus), "tokenizer": str(tokenizer)}))
    assert str(tokenizer) in str(caught.value)
    bare = str(corpus / "shard-0")
    data = RunData.open(run_config(tmp_path, {"train": bare, "split": SPLIT, "tokenizer": str(tokenizer)}))
    assert data.tokenizer is not None and data.vocab_size == data.tokenizer.vocab_size
    assert data.tokens.token_bytes is not None and len(data.tokens.token_bytes) == data.vocab_size
    assert data.end_of_document_id == data.tokenizer.role("end_of_document")


def test_a_bare_corpus_needs_a_vocabulary_size_and_may_do_without_a_tokenizer(tmp_path: Path, corpus: Path) -> None:
    bare = str(corpus / "shard-0")
    with pytest.raises(ConfigError, match=r"data\.tokenizer"):
        RunData.open(run_config(tmp_path, {"train": bare}))
    with pytest.raises(ConfigError, match=r"model\.vocab_size"):
        RunData.open(run_config(tmp_path, {"train": bare}), tokenizer_required=False)
    config = run_config(tmp_path, {"train": bare, "split": SPLIT}, model={"vocab_size": VOCAB_SIZE})
    data = RunData.open(config, tokenizer_required=False)
    assert (data.vocab_size, data.tokenizer, data.tokens.token_bytes) == (VOCAB_SIZE, None, None)


def test_a_model_that_is_too_small_for_the_tokenizer_is_refused(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(ConfigError, match=f"is 99, but .* has {VOCAB_SIZE} ids"):
        RunData.open(run_config(tmp_path, {"train": str(corpus)}, model={"vocab_size": 99}))


def test_one_corpus_twice_in_a_mixture_is_refused(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.train: names the same corpus twice"):
        RunData.open(run_config(tmp_path, {"train": [str(corpus), str(corpus)]}))


def test_what_a_label_costs_a_unigram_model_is_that_of_the_training_frequencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 8 equally frequent ids cost log 8 each, up to the half occurrence of the 2 others.
    corpus = write_corpus(tmp_path / "c", [80] * 50, vocab_size=10, repeat_tokens=8)
    data = RunData.open(run_config(tmp_path, {"train": str(corpus), "split": SPLIT}))
    nats = data.unigram_nats()
    assert nats is not None and nats[:8] == pytest.approx(np.full(8, np.log(8)), abs=2e-3)
    # Ids that training never saw cost what the smoothing leaves for them.
    assert nats[8:] == pytest.approx(np.full(2, np.log(4005 / 0.5)))
    # Of ids that are never labels the others have the share.
    without = unigram_nats(data.train, np.array([0, 1, 9]))
    assert without is not None and without[[0, 1, 9]].tolist() == [0, 0, 0]
    assert np.exp(-without[2:9]).sum() == pytest.approx(1)
    assert without[2:8] == pytest.approx(np.full(6, np.log(6)), abs=2e-3)


def test_a_bare_corpus_is_read_for_its_frequencies_where_it_is_small(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path, {"train": str(corpus / "shard-0"), "split": SPLIT}, model={"vocab_size": VOCAB_SIZE})
    data = RunData.open(config, tokenizer_required=False)
    nats = data.unigram_nats()
    assert nats is not None and np.exp(-nats).sum() == pytest.approx(1)
    monkeypatch.setattr("pretrain.data.unigram.MOST_READ_TOKENS", data.train.parts[0].corpus.num_tokens - 1)
    assert data.unigram_nats() is None


def test_opening_needs_no_torch(tmp_path: Path, corpus: Path) -> None:
    config = run_config(tmp_path, {"train": str(corpus), "split": SPLIT})
    program = (
        "import sys; from pretrain.config import RunConfig; from pretrain.data.run_data import RunData\n"
        "RunData.open(RunConfig.model_validate_json(sys.argv[1])).train.sample(0); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, config.model_dump_json()], check=True)


def test_text_goes_in_and_the_samples_decode_to_it(tmp_path: Path) -> None:
    lines = [f"document {number} says that {number} times {number} is {number * number}" for number in range(400)]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(lines))
    source = {"input": [str(text)], "text_documents": "line"}
    train_tokenizer(TokenizerConfig.model_validate(source | {"output": tmp_path / "tokenizer", "vocab_size": 300}))
    paths = {"tokenizer": tmp_path / "tokenizer", "output": tmp_path / "corpus"}
    tokenize(TokenizeConfig.model_validate(source | paths | {"workers": 1}))

    data = RunData.open(run_config(tmp_path, {"train": str(tmp_path / "corpus"), "split": SPLIT}))
    assert data.tokenizer is not None and data.tokens.token_bytes is not None
    assert data.end_of_document_id == data.tokenizer.role("end_of_document")
    read: list[str] = []
    for stream in (data.train, data.validation["validation"], data.test["test"]):
        order = stream.parts[0].documents.order(0, 0)
        tokens = np.concatenate([shard.tokens for shard in stream.parts[0].corpus.shards])
        for source_token, length in zip(order["source"], np.diff(order["start"])):
            document = tokens[source_token : source_token + length]
            assert document[-1] == data.end_of_document_id
            read.append(data.tokenizer.decode(document))
            assert int(data.tokens.token_bytes[document].sum()) == len(read[-1])
    assert sorted(read) == sorted(lines)
    # A sample is their text, cut anywhere.
    inner = data.tokenizer.decode(data.train.sample(3).tolist()[2:-2])
    assert any(part in line for line in lines for part in [inner[:12]])
    nats = data.unigram_nats()
    assert nats is not None and 1 < nats[data.validation["validation"].sample(0)].mean() < np.log(data.vocab_size)
