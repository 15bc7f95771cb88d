"""A run whose mixture and sample length change on the way reads every corpus on from where it stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain_data_corpora import random_lengths, run_config, write_corpus

from configs.errors import CheckpointError
from data_prep.corpus import Corpus
from pretrain.config.sampling import TOKEN_STREAM, SampleCutting
from pretrain.data.corpus_tokens import JOINED
from pretrain.data.documents import Documents
from pretrain.data.history import DataHistory
from pretrain.data.run_data import RunData
from pretrain.data.samples import Samples
from pretrain.data.saved_history import saved_history
from pretrain.data.token_stream import TokenStream

STEP = 8
FIRST_TOKEN = {"a": 0, "b": 20_000, "c": 40_000}
ALL_TRAIN = (1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Corpora whose token ids say which corpus and which token it is."""
    root = tmp_path_factory.mktemp("corpora")
    return {
        name: write_corpus(root / name, random_lengths(60 + 5 * i, seed=i), first_token=first, shards=1 + i)
        for i, (name, first) in enumerate(FIRST_TOKEN.items())
    }


def labels_of(samples: Samples) -> list[np.ndarray]:
    """The tokens of each sample that are labels and count."""
    counts = np.ones(samples.tokens.shape, dtype=np.bool_) if samples.joined is None else ~samples.joined
    return [row[1:][counting[1:]] for row, counting in zip(samples.tokens, counts)]


@dataclass
class Sessions:
    """A run of several sessions, each resumed from what the one before has recorded."""

    directory: Path
    history: DataHistory | None = None
    consumed: int = 0
    tokens: int = 0
    read: list[np.ndarray] = field(default_factory=list)
    """The labels of each sample."""
    data: RunData | None = None

    def session(self, train: Any, steps: int, *, seq_length: int = 16, **other: Any) -> Sessions:
        """Read some steps of a mixture."""
        given = {"train": train, "split": list(ALL_TRAIN)} | other.pop("data", {})
        config = run_config(self.directory, given, seq_length=seq_length, **other)
        self.data = RunData.open(config)
        if self.history is not None:
            written = json.loads(json.dumps(self.history.encode()))
            before = DataHistory.decode(written)
            self.data = self.data.continuing(config, before, self.consumed // STEP, self.consumed)
        self.history = self.data.history
        for _ in range(steps):
            self.read += labels_of(self.data.train.read(np.arange(self.consumed, self.consumed + STEP)))
            self.consumed += STEP
            self.tokens += STEP * seq_length
        return self

    def of(self, name: str) -> list[np.ndarray]:
        """The labels of the samples that a corpus gave, in order."""
        first = FIRST_TOKEN[name]
        return [labels for labels in self.read if first <= labels[0] < first + 20_000]


def alone(directory: Path, path: Path, count: int) -> list[np.ndarray]:
    """The first samples of a corpus in a run that reads nothing else."""
    data = RunData.open(run_config(directory, {"train": str(path), "split": list(ALL_TRAIN)}))
    return labels_of(data.train.read(np.arange(count)))


def check_in_order(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected))


def epochs_read(samples: Sequence[np.ndarray], path: Path, seed: int, ahead: int) -> int:
    """How many epochs of a corpus were read to their end, after a check that each token was a label once in each.

    When the last label of an epoch comes, `ahead` of the next may have been read, but no more: the last window of an
    epoch ends with the first tokens of the next, and so does the last of a rest that is cut anew. The very first token
    of a run is never a label.
    """
    corpus = Corpus.open(path)
    ids = np.concatenate([shard.tokens for shard in corpus.shards])
    documents = Documents(corpus, "train", ALL_TRAIN, Path("unused"))
    counts = np.zeros(len(ids), dtype=np.int64)
    counts[documents.order(0, seed, corpus.fingerprint)["source"][0]] = 1
    epochs = 0
    for labels in samples:
        np.add.at(counts, labels - ids[0], 1)
        if counts.min() > epochs:
            epochs += 1
            assert counts.sum() - epochs * len(ids) <= ahead
    return epochs


def test_every_corpus_goes_on_in_order_when_weights_change_and_corpora_come_and_go(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    a, b, c = ({"corpus": str(path)} for path in corpora.values())
    run = Sessions(tmp_path)
    run.session([a, b], 50)
    assert [len(run.of(name)) for name in "ab"] == [200, 200]
    run.session([a | {"weight": 9}, b], 5)
    assert [len(run.of(name)) for name in "ab"] == [236, 204]
    run.session([a | {"weight": 9}, b, c | {"weight": 2}], 6)
    run.session([c, a], 7)
    # One that was away goes on, too; and a resume that changes nothing begins no phase.
    run.session([a, b, c], 3).session([a, b, c], 3)
    assert run.history is not None
    assert [phase.from_sample for phase in run.history.phases] == [0, 400, 440, 488, 544]
    for name, path in corpora.items():
        found = run.of(name)
        assert len(found) > 30
        check_in_order(found, alone(tmp_path, path, len(found)))
    assert sum(len(run.of(name)) for name in "abc") == run.consumed == len(run.read)


def test_a_mixture_changed_three_times_and_a_length_changed_twice_leave_nothing_out(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    a, b, c = ({"corpus": str(path)} for path in corpora.values())
    run = Sessions(tmp_path)
    run.session([a, b], 8).session([a | {"weight": 9}, b], 7).session([a, b, c], 6, seq_length=48)
    run.session([c, a], 9, seq_length=48).session([c, a], 40, seq_length=24).session([c, a], 12, seq_length=24)
    assert run.data is not None and run.data.train.vocab_size
    epochs = {name: epochs_read(run.of(name), path, 1234, 16 + 48 + 24) for name, path in corpora.items()}
    assert epochs["a"] >= 3 and epochs["c"] >= 3 and sum(len(x) for x in run.of("b")) > 500
    # Tokens as trained: what is counted, and labels, but for the places where pieces of text are joined.
    assert run.history is not None
    lengths = run.history.lengths
    assert lengths.tokens(run.consumed) == run.tokens == 15 * 128 + 15 * 384 + 52 * 192
    labels = sum(len(labels) for labels in run.read)
    assert 0.97 * run.tokens < labels < run.tokens


@pytest.mark.slow
@settings(max_examples=25)
@given(
    cuts=st.lists(st.tuples(st.sampled_from([4, 7, 16, 24, 61]), st.integers(0, 90)), min_size=1, max_size=6),
    large=st.booleans(),
)
def test_a_corpus_may_be_cut_anew_at_any_moment_and_as_often_as_one_likes(
    tmp_path_factory: pytest.TempPathFactory, corpora: dict[str, Path], cuts: list[tuple[int, int]], large: bool
) -> None:
    corpus = Corpus.open(corpora["b"])
    cache = tmp_path_factory.mktemp("cache")
    documents = Documents(corpus, "train", ALL_TRAIN, cache, in_memory_documents=0 if large else 10**6)
    read: list[np.ndarray] = []
    index, taken = TokenStream(corpus, documents, SampleCutting(TOKEN_STREAM, 10, 1), 7, endless=True), 0
    for stride, count in [*cuts, (16, 300)]:
        sampling = SampleCutting(TOKEN_STREAM, stride, 1)
        index = index.continued(sampling, taken)
        numbers = np.arange(count)
        samples = Samples.empty(numbers, sampling, joins=index.has_joins)
        index.read_into(numbers, samples, numbers)
        assert np.array_equal(samples.num_tokens, np.full(count, stride + 1))
        read += labels_of(samples)
        taken = count
    assert epochs_read(read, corpora["b"], 7, 16 + sum(stride for stride, _ in cuts)) >= 2


def test_text_is_joined_where_it_was_read_before_and_only_there(corpora: dict[str, Path]) -> None:
    corpus = Corpus.open(corpora["a"])
    documents = Documents(corpus, "train", ALL_TRAIN, Path("unused"))
    index = TokenStream(corpus, documents, SampleCutting(TOKEN_STREAM, 8, 1), 7, endless=True).continued(
        SampleCutting(TOKEN_STREAM, 32, 1, marks_documents=True), 60
    )
    numbers = np.arange(30)
    samples = Samples.empty(numbers, SampleCutting(TOKEN_STREAM, 32, 1, marks_documents=True), joins=True)
    index.read_into(numbers, samples, numbers)
    assert samples.joined is not None and samples.document_starts is not None
    begins = {int(n) for n in np.cumsum([0, *(n for s in corpus.shards for n in s.document_lengths.tolist())])}
    follows = np.diff(samples.tokens) == 1
    # Inside a sample a token follows on the one before, or begins a document, or was joined; the last two are marked.
    assert (follows | samples.joined[:, 1:] | np.isin(samples.tokens[:, 1:], list(begins))).all()
    assert not (follows & samples.joined[:, 1:]).any()
    assert bool((samples.document_starts | ~samples.joined).all())
    assert samples.joined.sum() > 10
    assert "pieces" in index.rest_notes()[0]


def test_another_seed_leaves_the_order_of_the_data(tmp_path: Path, corpora: dict[str, Path]) -> None:
    run = Sessions(tmp_path).session(str(corpora["a"]), 4).session(str(corpora["a"]), 4, seed=99)
    check_in_order(run.of("a"), alone(tmp_path, corpora["a"], 64))
    assert run.data is not None
    assert run.data.notes == ("the order of the data stays that of seed 1234, with which the run began",)


def test_a_split_that_moves_documents_between_training_and_evaluation_is_refused(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    def data(split: list[float], **other: Any) -> tuple[RunData, Any]:
        config = run_config(tmp_path, {"train": str(corpora["a"]), "split": split} | other)
        return RunData.open(config), config

    before = data([0.8, 0.1, 0.1])[0].history
    for split, happens in [
        ([0.5, 0.3, 0.2], r"30\.0% of its documents were trained on and would be held out"),
        ([0.9, 0.1, 0.0], r"10\.0% of its documents were held out and would be trained on"),
    ]:
        now, config = data(split)
        with pytest.raises(CheckpointError, match=rf"(?s)data\.split: is .*{happens}.*expected: 0\.8") as error:
            now.check_split(config, before)
        assert str(corpora["a"]) in str(error.value)
        # Also where the corpus is only evaluated on from now on.
        now, config = data(split, train=str(corpora["b"]), validation={"old": str(corpora["a"])})
        with pytest.raises(CheckpointError, match=happens):
            now.check_split(config, before)
    for split in ([0.8, 0.2, 0.0], [0.8, 0.1, 0.1]):
        now, config = data(split)
        now.check_split(config, before)
    now, config = data([0.5, 0.3, 0.2], train=str(corpora["b"]))
    now.check_split(config, before)


def test_of_a_corpus_that_was_trained_on_once_only_what_was_held_out_is_evaluated(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    split = {"split": [0.6, 0.2, 0.2]}
    run = Sessions(tmp_path).session(str(corpora["a"]), 3, data=split)
    run.session(str(corpora["b"]), 3, data=split | {"validation": {"old": str(corpora["a"]), "new": str(corpora["c"])}})
    assert run.data is not None
    documents = {name: stream.parts[0].documents for name, stream in run.data.validation.items()}
    whole = {name: Documents(Corpus.open(corpora[name]), "all", ALL_TRAIN, Path("unused")) for name in "ac"}
    assert len(documents["new"]) == len(whole["c"])
    held_out = Documents(Corpus.open(corpora["a"]), "validation", (0.6, 0.2, 0.2), Path("unused"))
    assert np.array_equal(documents["old"].source, held_out.source)
    assert run.data.evaluation_sets["old"]["corpora"][0]["documents"] == "validation"


def test_a_checkpoint_from_before_histories_counts_as_one_phase(tmp_path: Path, corpora: dict[str, Path]) -> None:
    mixture = [{"corpus": str(corpora["a"]), "weight": 3.5}, {"corpus": str(corpora["b"]), "weight": 1.5}]
    config = run_config(tmp_path, {"train": mixture, "split": list(ALL_TRAIN)})
    data = RunData.open(config)
    metadata = {"config": config.model_dump(mode="json"), "data_fingerprint": data.fingerprint}
    found = saved_history(json.loads(json.dumps(metadata)))
    assert found is not None and found.seed == data.history.seed
    (phase,), (expected,) = found.phases, data.history.phases
    assert (phase.seq_length, phase.sampling, phase.split) == (16, expected.sampling, ALL_TRAIN)
    assert [(e.corpus, e.path) for e in phase.train] == [(e.corpus, e.path) for e in expected.train]
    assert phase.blend.counts.tolist() == expected.blend.counts.tolist() == [7, 3]
    # Nothing has changed: no phase begins.
    assert data.continuing(config, found, 5, 40).history == found
    assert saved_history({"step": 3}) is None
    gone = {"name": "no.such:Family"}
    assert saved_history(metadata | {"model": gone}) is None


def test_what_changes_is_told_with_paths_and_positions(tmp_path: Path, corpora: dict[str, Path]) -> None:
    a, b, c = ({"corpus": str(path)} for path in corpora.values())
    run = Sessions(tmp_path).session([a, b], 5).session([a | {"weight": 3}, c], 2, seq_length=32)
    assert run.data is not None
    told, rest = run.data.notes
    assert told == (
        f"from sample 40 on, 32 tokens each, data.train is {corpora['a']} 75.0% (after 20 samples of it),"
        f" {corpora['c']} 25.0% (new), no more {corpora['b']} (after 20 samples of it)"
    )
    assert rest.startswith(f"{corpora['a']}: was begun at another length of sample; what is left of that epoch is in ")
    # A later session of the same settings is told nothing; of changed weights, only those.
    unchanged = run.session([a | {"weight": 3}, c], 2, seq_length=32).data
    assert unchanged is not None and unchanged.notes == ()
    changed = run.session([a, c], 2, seq_length=32).data
    assert changed is not None
    assert [note.partition(",")[0] for note in changed.notes] == ["from sample 72 on"]


def test_the_pieces_that_are_left_of_an_epoch_are_counted_over_all_cuts(corpora: dict[str, Path]) -> None:
    corpus = Corpus.open(corpora["a"])
    documents = Documents(corpus, "train", ALL_TRAIN, Path("unused"))
    index = TokenStream(corpus, documents, SampleCutting(TOKEN_STREAM, 8, 1), 7, endless=True)
    for stride, taken in ((32, 60), (16, 9), (32, 3)):
        index = index.continued(SampleCutting(TOKEN_STREAM, stride, 1), taken)
    tokens, pieces = index._row.rest_of_epoch()  # type: ignore[attr-defined]
    stretches = index._row.stretches(np.array([0]), np.array([tokens]))[0]
    assert sum(length for _, length, _ in stretches) == tokens
    assert pieces == 1 + sum(first & JOINED > 0 for _, _, first in stretches) > 10
    read = 60 * 8 + 9 * 32 + 3 * 16
    # A piece has one token more than is to be read; and of the next epoch less than a sample is read ahead each time.
    assert documents.num_tokens - read <= tokens <= documents.num_tokens - read + pieces + 8 + 32 + 16
