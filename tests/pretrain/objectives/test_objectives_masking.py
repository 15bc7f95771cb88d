from __future__ import annotations

import numpy as np
import pytest
from encoder_inputs import assert_share
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.counter_random import CounterRandom
from pretrain.objectives import masking
from pretrain.objectives.masking import Words

LENGTH = 128


def keys(rows: int, name: str = "keys", length: int = LENGTH) -> np.ndarray:
    return CounterRandom(name).bits(np.arange(rows)[:, None], np.arange(length))


def random_text(rows: int, seed: int = 0, length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Which positions may be chosen, with a special token here and there, and which begin a word."""
    rng = np.random.default_rng(seed)
    return rng.random((rows, length)) < 0.97, rng.random((rows, length)) < 0.6


def word_list(maskable: np.ndarray, begins: np.ndarray) -> list[list[range]]:
    """The words of each row, found one position after the other."""
    found = []
    for row_maskable, row_begins in zip(maskable.tolist(), begins.tolist()):
        words: list[range] = []
        for column, can in enumerate(row_maskable):
            if can and (row_begins[column] or not words or words[-1].stop != column):
                words.append(range(column, column + 1))
            elif can:
                words[-1] = range(words[-1].start, column + 1)
        found.append(words)
    return found


def test_a_row_gets_the_rounded_share_and_at_least_one() -> None:
    counts = np.array([128, 50, 10, 3, 1, 0])
    maskable = np.arange(LENGTH) < counts[:, None]
    assert masking.budgets(maskable, np.full(6, 0.15)).tolist() == [19, 8, 2, 1, 1, 0]
    assert masking.budgets(maskable, np.full(6, 1.0)).tolist() == counts.tolist()


def test_tokens_are_chosen_exactly_and_equally_likely() -> None:
    maskable, _ = random_text(4000)
    budgets = masking.budgets(maskable, np.full(4000, 0.15))
    chosen = masking.choose_tokens(keys(4000), maskable, budgets)
    assert np.array_equal(chosen.sum(axis=1), budgets) and not (chosen & ~maskable).any()
    for column in range(0, LENGTH, 16):
        assert_share(int(chosen[:, column].sum()), int(maskable[:, column].sum()), budgets.sum() / maskable.sum())
    # Whether a neighbour is chosen says nothing about a token.
    both, one = (chosen[:, 1:] & chosen[:, :-1]).sum(), chosen[:, :-1][maskable[:, 1:]].sum()
    assert_share(int(both), int(one), 0.15 * (1 - 1 / LENGTH))


def test_all_or_nothing_can_be_chosen() -> None:
    maskable = np.array([[True] * 4, [False] * 4])
    assert np.array_equal(masking.choose_tokens(keys(2, length=4), maskable, np.array([4, 0])), maskable)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_words_are_found(seed: int) -> None:
    maskable, begins = random_text(5, seed)
    words = Words.find(maskable, begins)
    expected = word_list(maskable, begins)
    assert [len(row) for row in expected] == np.diff(words.bounds).tolist()
    flat = [(row, w.start, len(w)) for row, of_row in enumerate(expected) for w in of_row]
    assert flat == list(zip(words.rows.tolist(), words.firsts.tolist(), words.lengths.tolist()))


def test_whole_words_fill_the_budget_in_a_random_order_and_none_is_cut() -> None:
    maskable, begins = random_text(1000)
    budgets = masking.budgets(maskable, np.full(1000, 0.15))
    words = Words.find(maskable, begins)
    chosen = masking.choose_words(keys(1000), words, budgets)
    order, per_row = words.shuffled(keys(1000)), word_list(maskable, begins)
    for row, of_row in enumerate(per_row):
        # The published loop.
        expected: set[int] = set()
        for number in (order[words.bounds[row] : words.bounds[row + 1]] - words.bounds[row]).tolist():
            if len(expected) + len(of_row[number]) <= budgets[row]:
                expected |= set(of_row[number])
        assert set(np.flatnonzero(chosen[row]).tolist()) == expected
        assert all(len(expected & set(word)) in (0, len(word)) for word in of_row)
    # Single tokens fill what is left, so hardly anything is missing.
    assert chosen.sum() > 0.995 * budgets.sum()


def test_a_row_of_one_long_word_is_masked_whole() -> None:
    maskable, begins = np.ones((2, 8), dtype=bool), np.zeros((2, 8), dtype=bool)
    begins[1, 6] = True
    chosen = masking.choose_words(keys(2, length=8), Words.find(maskable, begins), np.array([1, 1]))
    assert chosen[0].all() and chosen[1].tolist() == [False] * 6 + [True] * 2


def test_span_lengths_are_geometric_up_to_ten() -> None:
    lengths = masking.span_lengths(CounterRandom("spans").uniform(np.arange(20_000), np.array([0])))
    shares = 0.2 * 0.8 ** np.arange(10)
    for length, share in enumerate(shares / shares.sum(), start=1):
        assert_share(int((lengths == length).sum()), len(lengths), share)
    assert lengths.min() == 1 and lengths.max() == 10
    assert lengths.mean() == pytest.approx(3.8, abs=0.06)  # as SpanBERT says


def test_spans_are_whole_words_and_spend_the_budget() -> None:
    maskable, begins = random_text(1000)
    budgets = masking.budgets(maskable, np.full(1000, 0.15))
    words = Words.find(maskable, begins)
    lengths = masking.span_lengths(CounterRandom("spans").uniform(words.rows, words.firsts))
    chosen, starts = masking.choose_spans(keys(1000), words, lengths, budgets)
    assert np.array_equal(chosen.sum(axis=1), budgets) and not (chosen & ~maskable).any()
    length_at = {(r, c): n for r, c, n in zip(words.rows.tolist(), words.firsts.tolist(), lengths.tolist())}
    seen = []
    for row, of_row in enumerate(word_list(maskable, begins)):
        at = set(np.flatnonzero(chosen[row]).tolist())
        assert sum(0 < len(at & set(word)) < len(word) for word in of_row) <= 1  # the last span of the budget
        first_of = {column: word.start for word in of_row for column in word}
        for start in set(starts[row][chosen[row]].tolist()):
            columns = np.flatnonzero(chosen[row] & (starts[row] == start)).tolist()
            num_words = len({first_of[column] for column in columns})
            assert columns[0] == start and first_of[start] == start
            assert num_words <= length_at[row, start]
            assert maskable[row, start : columns[-1] + 1].all()  # no span goes over a special token
            seen.append(num_words)
    # Borders, special tokens, other spans and the budget cut some: shorter than drawn, far longer than single words.
    assert 2.2 < np.mean(seen) < 3.8


def test_no_span_runs_into_the_next_document() -> None:
    maskable, begins = random_text(1000)
    documents = np.cumsum(np.random.default_rng(3).random(maskable.shape) < 0.1, axis=1)
    words = Words.find(maskable, begins, documents)
    budgets = masking.budgets(maskable, np.full(1000, 0.3))
    lengths = masking.span_lengths(CounterRandom("spans").uniform(words.rows, words.firsts))
    chosen, starts = masking.choose_spans(keys(1000), words, lengths, budgets)
    assert np.array_equal(chosen.sum(axis=1), budgets)
    rows, columns = np.nonzero(chosen)
    assert np.array_equal(documents[rows, columns], documents[rows, starts[rows, columns]])
    whole = Words.find(maskable, begins)
    chosen, starts = masking.choose_spans(
        keys(1000), whole, masking.span_lengths(CounterRandom("spans").uniform(whole.rows, whole.firsts)), budgets
    )
    rows, columns = np.nonzero(chosen)
    assert not np.array_equal(documents[rows, columns], documents[rows, starts[rows, columns]])  # it would show


def test_replacements_have_their_shares() -> None:
    original = np.arange(100_000) + 1000
    draws = (
        CounterRandom("kinds").uniform(original, np.array([0])),
        CounterRandom("which").uniform(original, np.array([0])),
    )
    candidates = np.arange(20, 40)
    read = masking.Replacement(0.8, 0.1, mask_id=3, candidates=candidates)(original, *draws)
    assert_share(int((read == 3).sum()), len(read), 0.8)
    assert_share(int((read == original).sum()), len(read), 0.1)
    random = read[(read != 3) & (read != original)]
    assert set(random.tolist()) == set(candidates.tolist())
    for candidate in (20, 30, 39):
        assert_share(int((random == candidate).sum()), len(random), 1 / 20)


def test_draws_differ_by_key_number_and_counter_and_are_fixed() -> None:
    random = CounterRandom(7, "masks")
    bits = random.bits(np.arange(300)[:, None], np.arange(300))
    assert len(np.unique(bits)) == bits.size
    assert not np.intersect1d(bits, CounterRandom(8, "masks").bits(np.arange(300)[:, None], np.arange(300))).size
    assert np.array_equal(random.bits(np.array([7, 299]), np.array([3, 3])), bits[[7, 299], 3])
    # Written down: a run that resumes with another version of the program must draw the same.
    assert random.bits(np.array([0, 5]), np.array([0, 9])).tolist() == [11223992168130603580, 3794161650683211470]
    ones = np.unpackbits(bits.view(np.uint8)).sum()
    assert_share(int(ones), bits.size * 64, 0.5)
