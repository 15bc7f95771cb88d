"""Exact match and F1 as SQuAD's script has them, and the best answer over windows against a search of all."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from finetune.tasks.qa_metrics import answer_figures, exact_and_f1, normalized
from finetune.tasks.qa_windows import ContextWords, QuestionWindow, best_answer


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("The Cat!", ["cat"], 1, 1),
        ("a black cat", ["the cat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("dog", ["cat", "a dog"], 1, 1),
        ("dog", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("dog", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("", ["the"], 1, 1),
        ("U.S.", ["us"], 1, 1),
    ],
)
def test_answers_count_as_squads_script_counts_them(
    predicted: str, answers: list[str], exact: float, f1: float
) -> None:
    assert exact_and_f1(predicted, answers) == (exact, pytest.approx(f1))


def test_normalization_is_that_of_the_script() -> None:
    assert normalized("  An  apple, a-day: THE   end. ") == "apple aday end"
    assert normalized("theatre area") == "theatre area", "articles are whole words"


def test_chinese_counts_characters() -> None:
    assert exact_and_f1("《北京》", ["北京"], by_characters=True) == (1, 1)
    assert exact_and_f1("北京大学", ["北京"], by_characters=True) == (0, pytest.approx(2 / 3))
    assert exact_and_f1("北京大学", ["北京"]) == (0, 0), "by words, the whole is one"


def test_figures_tell_questions_without_an_answer_apart() -> None:
    found = answer_figures(["cat", "", "dog"], [["cat"], [], []], by_characters=False, seed=0)
    assert found["f1"] == pytest.approx(2 / 3) and found["answerable_f1"] == 1 and found["no_answer_accuracy"] == 0.5
    low, high = found["f1_interval"]
    assert 0 <= low < found["f1"] < high <= 1
    assert "no_answer_accuracy" not in answer_figures(["cat"], [["cat"]], by_characters=False)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_answer_is_that_of_a_search_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    words = ContextWords.of(" ".join("abcdefgh"))
    shuffled = random.Random(seed)
    found, best, null, losses = [], (-np.inf, 0, 0), np.inf, 0.0
    for start, end in ((0, 5), (3, 8)):
        sizes = [shuffled.randint(1, 3) for _ in range(start, end)]
        last = list(np.cumsum(sizes) + 1)
        first = [place - size + 1 for place, size in zip(last, sizes)]
        begin, finish = (generator.normal(size=last[-1] + 2).astype(np.float32) for _ in range(2))
        window = QuestionWindow([0] * len(begin), [], list(range(start, end)), first, last, (0, 0))
        found.append((window, begin, finish, 0.5))
        null, losses = min(null, float(begin[0] + finish[0])), losses + 0.5
        for a, b in itertools.product(range(end - start), repeat=2):
            if a <= b and (last[b] - first[a] < 4 or a == b):
                best = max(best, (float(begin[first[a]] + finish[last[b]]), start + a, start + b))
    answer = best_answer(found, words, 4, is_encoder=True)
    assert (answer.start, answer.end) == (words.starts[best[1]], words.ends[best[2]])
    assert answer.score == pytest.approx(best[0]) and answer.no_answer == pytest.approx(null) and answer.loss == losses
    context, margin = "a b c d e f g h", answer.no_answer - answer.score
    assert answer.text(context, margin + 0.01) == answer.text(context, None) == context[answer.start : answer.end]
    assert answer.text(context, margin - 0.01) == ""
