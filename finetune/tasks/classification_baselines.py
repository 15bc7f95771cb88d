"""What a classifier is measured against: the most frequent label, and TF-IDF with logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finetune.tasks.unspaced import is_unspaced


@dataclass(frozen=True)
class TextFeatures:
    """What TF-IDF counts: runs of words, or of characters.

    Attributes:
        analyzer: as scikit-learn calls it.
        longest: of such a run.
    """

    analyzer: Literal["word", "char"]
    longest: int

    def __str__(self) -> str:
        return f"{'words' if self.analyzer == 'word' else 'characters'}, 1 to {self.longest}"


def text_features(texts: Sequence[str]) -> TextFeatures:
    """Characters where enough of the letters are of scripts written without spaces (Chinese, Thai), else words."""
    return TextFeatures("char", 3) if is_unspaced(texts) else TextFeatures("word", 2)


def majority(train_labels: Sequence[int], count: int) -> list[int]:
    """`count` predictions of the most frequent label of the training part (the first of equally frequent ones)."""
    frequencies = Counter(train_labels)
    return [min(frequencies, key=lambda label: (-frequencies[label], label))] * count


def tfidf(
    train_texts: Sequence[str],
    train_labels: Sequence[int],
    texts: Sequence[str],
    *,
    features: TextFeatures,
    balanced: bool,
    seed: int,
) -> list[int]:
    """Predictions of a logistic regression on TF-IDF.

    Args:
        train_texts: what it learns from.
        train_labels: their labels.
        texts: what it predicts.
        features: what is counted.
        balanced: whether rare labels count as much as frequent ones.
        seed: decides the solver's order.

    Returns:
        one label per text; the most frequent one for all where the texts have no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(
        analyzer=features.analyzer, ngram_range=(1, features.longest), sublinear_tf=True, max_features=100_000
    )
    try:
        matrix = vectors.fit_transform(train_texts)
    except ValueError:  # "empty vocabulary": nothing but signs
        return majority(train_labels, len(texts))
    model = LogisticRegression(max_iter=1000, C=10.0, class_weight="balanced" if balanced else None, random_state=seed)
    model.fit(matrix, train_labels)
    return [int(label) for label in model.predict(vectors.transform(texts))]
