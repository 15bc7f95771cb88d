import math
from collections import Counter

import numpy as np
import pytest
from kneser_ney_oracle import Oracle

from data_prep.ngram.kneser_ney import FALLBACK, Discounts, Predictor
from data_prep.ngram.ngram_counts import Stream, first_level, next_level

VOCAB = 12


def stream(documents: list[list[int]], vocab_size: int = VOCAB) -> Stream:
    flat = [token for document in documents for token in (vocab_size, *document)]
    return Stream(np.array(flat, dtype=np.int32), vocab_size, len(documents))


def random_documents(count: int, seed: int, longest: int = 14) -> list[list[int]]:
    """Documents of a skewed vocabulary, some of a single token; the ids from 10 on never occur."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest, count).tolist()
    return [np.minimum(generator.geometric(0.25, n) - 1, 9).tolist() for n in lengths]


@pytest.mark.parametrize(("count", "seed"), [(200, 0), (60, 1), (5, 2), (1, 3)])
def test_probabilities_are_those_of_the_definition(count, seed):
    training, held_out = random_documents(count, seed), random_documents(20, seed + 100)
    held_out += [[11], [10, 10, 10], training[0]]  # unseen ids, and a document that was seen
    for score, probabilities in Predictor(stream(training), stream(held_out)).predict(5):
        oracle = Oracle(training, score.order, VOCAB)
        expected = [p for document in held_out for p in oracle.probabilities(document)]
        assert probabilities == pytest.approx(expected, rel=1e-9), score.order
        assert score.loss_nats == pytest.approx(-sum(map(math.log, expected)) / len(expected), rel=1e-9)
        assert [0.0, *score.discounts.values] == pytest.approx(oracle.discounts[score.order])


@pytest.mark.parametrize("history", [[], [0], [0, 1, 0], [11], [3, 11, 0], [9, 9, 9, 9, 9]])
def test_the_probabilities_after_a_history_sum_to_one(history):
    training = stream(random_documents(150, 5))
    held_out = stream([[*history, token] for token in range(VOCAB)])
    for _, probabilities in Predictor(training, held_out).predict(5):
        last = probabilities[len(history) :: len(history) + 1]
        assert len(last) == VOCAB and (last > 0).all()
        assert last.sum() == pytest.approx(1.0, abs=1e-12)


def test_no_ngram_reaches_over_a_border_of_documents():
    documents = [[1, 2, 1, 2], [3], [2, 3, 1]]
    level, spelled = first_level(stream(documents)), [(token,) for token in range(VOCAB + 1)]
    for order in (2, 3, 4):
        level = next_level(stream(documents), level)
        histories, last = np.divmod(level.keys, level.width)
        spelled = [(*spelled[history], int(token)) for history, token in zip(histories, last)]
        tokens = [[VOCAB, *document] for document in documents]
        wanted = [tuple(t[i : i + order]) for t in tokens for i in range(len(t) - order + 1)]
        assert dict(zip(spelled, level.counts.tolist())) == Counter(wanted)


def test_a_longer_model_predicts_structure_that_a_shorter_one_cannot():
    # Each token follows from the two before it: a model of three tokens knows nearly all, one of two little.
    generator = np.random.default_rng(0)

    def document() -> list[int]:
        tokens = generator.integers(0, 10, 2).tolist()
        for _ in range(60):
            tokens.append((3 * tokens[-1] + tokens[-2]) % 10)
        return tokens

    training, held_out = [document() for _ in range(300)], [document() for _ in range(20)]
    losses = [score.loss_nats for score, _ in Predictor(stream(training), stream(held_out)).predict(3)]
    assert losses[0] > 1.5 and losses[1] > 1.0 and losses[2] < 0.3


def test_discounts_fall_back_where_counts_give_none():
    assert Discounts.of(np.array([1, 1, 2, 3, 0, 0])) == Discounts(FALLBACK, False)  # no count of four
    assert Discounts.of(np.repeat([1, 2, 3, 4], [9, 1, 99, 1])) == Discounts(FALLBACK, False)  # D2 is below zero
    estimated = Discounts.of(np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 7]))
    y = 100 / 180
    expected = (1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 12 / 20)
    assert estimated.estimated and estimated.values == pytest.approx(expected)


def numbered_documents(count: int, seed: int, words: int = 60) -> list[list[int]]:
    """Documents that do not depend on any library's generator; each ends with the id `words`."""
    state, documents = seed, []

    def draw(below: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state >> 33) % below

    for _ in range(count):
        tokens = [draw(words)]
        for _ in range(draw(14)):
            tokens.append((5 * tokens[-1] + draw(1 + draw(8)) * draw(3)) % words)
        documents.append([*tokens, words])
    return documents


# What KenLM's lmplz (0.3.0, --discount_fallback) and query say of the same documents, in nats per token: its single
# precision gives seven digits. Its <unk> is the one id that does not occur, its </s> the id that ends a document.
KENLM_LOSSES = {1: 3.72010740, 2: 2.27104863, 3: 2.31979330, 4: 2.34968356, 5: 2.37021433}


def test_losses_are_those_of_kenlm():
    training, held_out = numbered_documents(400, 1), numbered_documents(40, 2)
    for score, _ in Predictor(stream(training, 62), stream(held_out, 62)).predict(5):
        assert score.loss_nats == pytest.approx(KENLM_LOSSES[score.order], rel=3e-7), score.order
        assert score.discounts.estimated == (score.order > 1)
