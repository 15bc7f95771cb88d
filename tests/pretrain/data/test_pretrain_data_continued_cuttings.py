"""Pairs and whole sentences go on within an epoch: its rest as it was cut, the next epochs with more room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.config.sampling import FULL_SENTENCES, SENTENCE_PAIRS, TOKEN_STREAM, PairSampleCutting, SampleCutting
from pretrain.data.documents import Documents
from pretrain.data.epoch_cuttings import CUTTINGS
from pretrain.data.sample_index import Continuing, SampleIndex, open_index
from pretrain.data.samples import Samples
from tests.pretrain.data.sentence_shards import FIRST_TEXT_ID, SentenceCorpus, random_sizes, write_sentences

SMALL, LARGE = 40, 90


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SentenceCorpus:
    return write_sentences(tmp_path_factory.mktemp("c") / "c", random_sizes(25, seed=3, mean_tokens=5), shards=2)


def cutting(kind: str, room: int, **other: Any) -> SampleCutting:
    if kind == "full":
        return SampleCutting(FULL_SENTENCES, room)
    return PairSampleCutting(SENTENCE_PAIRS, room, pairs="sentence_order", short_rate=0.0, **other)


def index_of(source: SentenceCorpus, sampling: SampleCutting) -> SampleIndex:
    documents = Documents(source.corpus, "all", (1.0, 0.0, 0.0), Path("unused"))
    return open_index(source.corpus, documents, sampling, 1, endless=True)


def read(index: SampleIndex, begin: int, end: int, room: int) -> Samples:
    numbers = np.arange(begin, end)
    samples = Samples.empty(numbers, SampleCutting(TOKEN_STREAM, room), index.extras)
    index.read_into(numbers, samples, numbers - begin)
    return samples


def count(source: SentenceCorpus, samples: Samples) -> np.ndarray:
    """How often each id of the text occurs."""
    ids = samples.tokens[samples.tokens >= FIRST_TEXT_ID] - FIRST_TEXT_ID
    return np.bincount(ids, minlength=int(source.sizes.sum()))


@pytest.mark.parametrize("kind", ["full", "pairs"])
@pytest.mark.parametrize("taken", [1, 17, None])
def test_an_epoch_ends_as_it_was_cut_and_the_next_has_more_room(
    source: SentenceCorpus, kind: str, taken: int | None
) -> None:
    before = index_of(source, cutting(kind, SMALL))
    epoch = before.num_samples_per_epoch
    taken = epoch if taken is None else taken
    assert isinstance(before, Continuing)
    after = before.continued(cutting(kind, LARGE), taken)
    counted = count(source, read(before, 0, taken, LARGE))
    rest = epoch - taken
    samples = read(after, 0, rest, LARGE)
    assert rest == 0 or samples.num_tokens.max() <= SMALL
    counted += count(source, samples)
    assert (counted == 1).all()
    # The next epoch is the second one of the larger room.
    reference = index_of(source, cutting(kind, LARGE))
    first = reference.num_samples_per_epoch
    later = read(after, rest, rest + 20, LARGE)
    expected = read(reference, first, first + 20, LARGE)
    assert np.array_equal(later.tokens, expected.tokens) and later.num_tokens.max() > SMALL
    assert all(np.array_equal(later.extras[name], expected.extras[name]) for name in later.extras)
    assert [str(o) for o in after.origins(rest)] == [str(o) for o in reference.origins(first)]
    after.prepare(0)
    after.prepare(rest)


def test_it_may_go_on_more_than_once_and_after_many_epochs(source: SentenceCorpus) -> None:
    before = index_of(source, cutting("full", SMALL))
    assert isinstance(before, Continuing)
    starts = [before.first_sample(epoch) for epoch in range(CUTTINGS + 4)]  # type: ignore[attr-defined]
    begin = CUTTINGS + 2
    taken = starts[begin] + 5
    once = before.continued(cutting("full", 60), taken)
    counted = count(source, read(before, starts[begin], taken, LARGE)) + count(source, read(once, 0, 4, LARGE))
    assert isinstance(once, Continuing)
    twice = once.continued(cutting("full", LARGE), 4)
    rest = starts[begin + 1] - taken - 4
    counted += count(source, read(twice, 0, rest, LARGE))
    assert (counted == 1).all()
    reference = index_of(source, cutting("full", LARGE))
    following = reference.first_sample(begin + 1)  # type: ignore[attr-defined]
    assert np.array_equal(
        read(twice, rest, rest + 9, LARGE).tokens, read(reference, following, following + 9, LARGE).tokens
    )
    assert isinstance(twice, Continuing)
    third = twice.continued(cutting("full", LARGE + 5), rest + 3)
    behind = reference.first_sample(begin + 2) - following - 3  # type: ignore[attr-defined]
    parts = [read(twice, rest, rest + 3, LARGE), read(third, 0, behind, LARGE + 5)]
    assert (sum(count(source, samples) for samples in parts) == 1).all()


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (cutting("pairs", SMALL - 10), "up to 40 tokens of text in a sample, and what is left of it has no room in 30"),
        (
            PairSampleCutting(SENTENCE_PAIRS, SMALL, pairs="next_sentence", short_rate=0.0),
            "second parts of another kind",
        ),
        (SampleCutting(FULL_SENTENCES, LARGE), "samples of another kind cannot follow within an epoch"),
    ],
)
def test_what_cannot_follow_within_an_epoch_says_why(source: SentenceCorpus, after: SampleCutting, says: str) -> None:
    before = index_of(source, cutting("pairs", SMALL))
    assert isinstance(before, Continuing)
    with pytest.raises(ValueError, match=says):
        before.continued(after, 5)
    if isinstance(after, PairSampleCutting):
        # Where an epoch ends, all of it may change.
        before.continued(after, before.num_samples_per_epoch)


def test_a_stream_of_tokens_goes_on_as_no_pairs(source: SentenceCorpus) -> None:
    before = index_of(source, SampleCutting(TOKEN_STREAM, 16, 1))
    assert isinstance(before, Continuing)
    with pytest.raises(ValueError, match="another kind"):
        before.continued(cutting("pairs", SMALL), 5)
