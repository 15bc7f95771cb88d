"""Figures of tags against counts by hand, the baseline, and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.tasks import bootstrap
from finetune.tasks.tag_metrics import FrequentTags, entity_figures, plain_figures


def test_entities_are_right_as_a_whole() -> None:
    gold = [["B-X", "I-X", "O", "B-Y"], ["O", "B-X"]]
    told = [["B-X", "I-X", "O", "B-X"], ["I-X", "B-X"]]  # an I-X that continues nothing is no entity
    figures = entity_figures(gold, told)
    assert figures["micro_precision"] == pytest.approx(2 / 3) and figures["micro_recall"] == pytest.approx(2 / 3)
    assert figures["labels"]["X"] == {"precision": pytest.approx(2 / 3), "recall": 1, "f1": 0.8, "support": 2}
    assert figures["labels"]["Y"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert figures["macro_f1"] == pytest.approx(0.4) and figures["accuracy"] == pytest.approx(4 / 6)
    half = entity_figures([["B-X", "I-X"]], [["B-X", "O"]])
    assert half["micro_f1"] == 0 and half["accuracy"] == 0.5
    nothing = entity_figures([["O"]], [["O"]])
    assert nothing["micro_f1"] == 0 and nothing["labels"] == {} and nothing["accuracy"] == 1


def test_plain_tags_and_those_that_training_never_saw() -> None:
    figures = plain_figures([["N", "V", "Q"]], [["N", "N", "V"]], ["N", "V"], 0)
    assert figures["accuracy"] == figures["micro_f1"] == pytest.approx(1 / 3)
    assert figures["labels"]["Q"]["recall"] == 0 and figures["labels"]["N"]["precision"] == 0.5
    assert list(figures["labels"]) == ["N", "V", "Q"]


def test_the_most_frequent_tag_of_each_word() -> None:
    usual = FrequentTags([["run", "a", "run", "run"], ["a"]], [["V", "D", "N", "V"], ["D"]])
    assert usual.tags(["run", "a", "new"]) == ["V", "D", "D"]


def test_intervals_hold_the_figure_and_narrow_with_examples() -> None:
    hits = np.array([[1, 1]] * 70 + [[0, 1]] * 30)
    low, high = bootstrap.interval(hits, bootstrap.mean)
    assert 0.58 < low < 0.66 and 0.74 < high < 0.82, "about two standard errors of 0.046 around 0.7"
    narrow = bootstrap.interval(np.repeat(hits, 25, axis=0), bootstrap.mean)
    assert narrow[1] - narrow[0] < 0.3 * (high - low)
    assert bootstrap.interval(hits, bootstrap.mean) == [low, high]
    assert bootstrap.interval(hits, bootstrap.mean, seed=1) != [low, high]
    sums = np.array([[3.0, 1.0, 4.0, 2.0, 5.0, 0.0]])  # two labels: hits 3, 1; predicted 4, 2; right 5, 0
    assert bootstrap.macro_f1(sums) == pytest.approx((6 / 9 + 2 / 2) / 2)
    assert bootstrap.micro_f1(np.array([[3.0, 4.0, 5.0]])) == pytest.approx(6 / 9)
