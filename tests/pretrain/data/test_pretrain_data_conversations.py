"""Conversations in samples: each whole and once an epoch, answers where the corpus has them, samples well filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import DataError
from data_prep.corpus import Corpus
from data_prep.corpus_tools.verification import verify_corpus
from pretrain.config.sampling import CONVERSATIONS, ConversationCutting
from pretrain.data.conversations import Conversations, best_fit
from pretrain.data.documents import Documents
from pretrain.data.history import DataHistory, DataPhase, MixedCorpus
from pretrain.data.samples import Samples
from tests.pretrain.data.conversation_shards import FIRST_ID, Turns, write_conversations

ROOM = 40


def index_of(
    corpus: Corpus, *, packing: bool = True, seed: int = 1, endless: bool = True, room: int = ROOM, in_memory: int = 99
) -> Conversations:
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), corpus.path / "index", in_memory_documents=in_memory)
    cutting = ConversationCutting(CONVERSATIONS, room, marks_documents=True, packing=packing)
    return Conversations(corpus, documents, cutting, seed, endless=endless)


def read(index: Conversations, begin: int, end: int) -> Samples:
    numbers = np.arange(begin, end)
    samples = Samples.empty(numbers, index.sampling)
    index.read_into(numbers, samples, numbers - begin)
    return samples


def random_turns(count: int, seed: int = 0) -> Turns:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 9, rng.integers(2, 5)).tolist() for _ in range(count)]


@pytest.mark.parametrize("packing", [True, False])
def test_each_conversation_stands_whole_in_one_sample_of_an_epoch(tmp_path: Path, packing: bool) -> None:
    turns = random_turns(60)
    index = index_of(write_conversations(tmp_path / "c", turns, shards=3), packing=packing)
    first = np.cumsum([0, *map(sum, turns)]) + FIRST_ID
    answered = np.concatenate([np.repeat(np.arange(len(t)) % 2 == 1, t) for t in turns])
    epochs = []
    for epoch in (0, 1):
        begin, end = index.first_sample(epoch), index.first_sample(epoch + 1)
        assert packing or end - begin == len(turns)
        samples, seen = read(index, begin, end), []
        assert samples.document_starts is not None and samples.answers is not None
        for row in range(end - begin):
            tokens = samples.tokens[row, : samples.num_tokens[row]]
            starts = np.flatnonzero(samples.document_starts[row])
            for part in np.split(tokens, starts[1:]):
                number = int(np.flatnonzero(first == part[0])[0])
                assert part.tolist() == list(range(first[number], first[number + 1]))
                seen.append(number)
            assert np.array_equal(samples.answers[row, : len(tokens)], answered[tokens - FIRST_ID])
            assert not samples.answers[row, len(tokens) :].any()
            origins = index.origins(begin + row)
            assert sum(origin.num_tokens for origin in origins) == len(tokens)
        assert sorted(seen) == list(range(len(turns)))
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    assert index_of(index.corpus, packing=packing, seed=2).cutting(0)["order"].tolist() != epochs[0]


def test_packing_wastes_little_and_an_index_file_changes_nothing(tmp_path: Path) -> None:
    corpus = write_conversations(tmp_path / "c", random_turns(300))
    index, on_disk = index_of(corpus, endless=False), index_of(corpus, endless=False, in_memory=1)
    count = index.num_samples_per_epoch
    least = -(-index.documents.num_tokens // ROOM)
    assert least <= count <= least * 1.03
    (note,) = index.notes()
    assert f"300 conversations in {count:,} samples" in note and "9" in note
    assert list((corpus.path / "index").glob("conversations-*.index"))
    one, other = read(index, 0, count), read(on_disk, 0, count)
    assert np.array_equal(one.tokens, other.tokens) and np.array_equal(one.answers, other.answers)


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_no_bin_is_over_full_and_none_is_opened_without_need(lengths: list[int]) -> None:
    items = np.array(sorted(lengths, reverse=True))
    bins = best_fit(items, 12)
    held: dict[int, int] = {}
    for length, chosen in zip(items.tolist(), bins.tolist()):
        having_room = [held[number] for number in held if held[number] + length <= 12]
        assert held.get(chosen, 0) == max(having_room, default=0)
        held[chosen] = held.get(chosen, 0) + length
    assert sorted(held) == list(range(len(held)))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    corpus = write_conversations(tmp_path / "c", [[3, 4], [20, 21], [2, 2]])
    with pytest.raises(DataError, match=r"conversation of 41 tokens.*room for 40"):
        index_of(corpus)
    plain = write_conversations(tmp_path / "plain", [[3, 4]], answers=False)
    with pytest.raises(DataError, match="which of its tokens are answers"):
        index_of(plain)


def test_a_corpus_says_what_its_sequences_are_and_a_history_how_it_was_cut(tmp_path: Path) -> None:
    turns = [[3, 4], [2, 2, 5, 1]]
    corpus, plain = (write_conversations(tmp_path / name, turns, answers=name == "c") for name in ("c", "plain"))
    said = [[problem.text for problem in verify_corpus(c.path, workers=1).problems.found] for c in (corpus, plain)]
    assert [any("knows no sentences" in text for text in texts) for texts in said] == [False, True]
    cutting = ConversationCutting(CONVERSATIONS, ROOM, marks_documents=True, packing=False)
    phase = DataPhase(0, 0, ROOM, cutting, (1.0, 0.0, 0.0), (MixedCorpus("a", "path", 1.0),))
    assert DataHistory.decode(DataHistory(3, (phase,)).encode()) == DataHistory(3, (phase,))
