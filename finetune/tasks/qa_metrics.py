"""Figures of answers as SQuAD's script has them: exact match and F1, the best over the right answers of a question."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetune.tasks import bootstrap

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalized(text: str) -> str:
    """An answer as SQuAD's script compares it: in lower case, without ASCII punctuation, articles, extra spaces."""
    kept = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def characters(text: str) -> list[str]:
    """The characters of an answer in lower case, without white space and punctuation of any script."""
    return [char for char in text.lower() if not char.isspace() and not unicodedata.category(char).startswith("P")]


def exact_and_f1(predicted: str, answers: Sequence[str], *, by_characters: bool = False) -> tuple[float, float]:
    """Exact match and F1 of an answer, each the best over all right ones.

    Args:
        predicted: the answer; empty: that there is none.
        answers: the right ones; none: that there is none, which is right or wrong as a whole.
        by_characters: whether F1 counts characters, and exactness compares those.
    """
    units = characters if by_characters else (lambda text: normalized(text).split())
    # As the script does: answers that are nothing but punctuation or articles do not count.
    right = [units(answer) for answer in answers]
    right = [found for found in right if found] or [[]]
    given = units(predicted)
    return max(float(given == found) for found in right), max(_f1(given, found) for found in right)


def _f1(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))


def answer_figures(
    predicted: Sequence[str], answers: Sequence[Sequence[str]], *, by_characters: bool, seed: int | None = None
) -> dict[str, Any]:
    """Figures of the answers to some questions.

    Args:
        predicted: an answer each; empty: that there is none.
        answers: the right ones of each.
        by_characters: what F1 counts.
        seed: of the intervals' resamples of questions; None: no intervals.

    Returns:
        `exact`, `f1` and their 95 % intervals, `samples`, and apart `answerable_f1` (of questions with an answer) and
        `no_answer_accuracy` (of those without), as far as there are such.
    """
    scores = [
        exact_and_f1(given, right, by_characters=by_characters) for given, right in zip(predicted, answers, strict=True)
    ]
    figures: dict[str, Any] = {"samples": len(scores)}
    for at, name in enumerate(("exact", "f1")):
        values = [score[at] for score in scores]
        figures[name] = sum(values) / len(values)
        if seed is not None:
            figures[f"{name}_interval"] = bootstrap.interval([(value, 1) for value in values], bootstrap.mean, seed)
    with_answer = [score[1] for score, right in zip(scores, answers) if right]
    without = [score[1] for score, right in zip(scores, answers) if not right]
    if with_answer:
        figures["answerable_f1"] = sum(with_answer) / len(with_answer)
    if without:
        figures["no_answer_accuracy"] = sum(without) / len(without)
    return figures
