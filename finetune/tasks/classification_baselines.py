"""What a classifier is measured against: the most frequent label, and TF-IDF with logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def majority(train_labels: Sequence[int], count: int) -> list[int]:
    """`count` predictions of the most frequent label of the training part (the first of equally frequent ones)."""
    frequencies = Counter(train_labels)
    return [min(frequencies, key=lambda label: (-frequencies[label], label))] * count


def tfidf(
    train_texts: Sequence[str],
    train_labels: Sequence[int],
    texts: Sequence[str],
    *,
    balanced: bool,
    seed: int,
) -> list[int]:
    """Predictions of a logistic regression on TF-IDF of words and word pairs.

    Args:
        train_texts: what it learns from.
        train_labels: their labels.
        texts: what it predicts.
        balanced: whether rare labels count as much as frequent ones.
        seed: decides the solver's order.

    Returns:
        one label per text; the most frequent one for all where the texts have no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=100_000)
    try:
        matrix = features.fit_transform(train_texts)
    except ValueError:  # "empty vocabulary": nothing but signs
        return majority(train_labels, len(texts))
    model = LogisticRegression(max_iter=1000, C=10.0, class_weight="balanced" if balanced else None, random_state=seed)
    model.fit(matrix, train_labels)
    return [int(label) for label in model.predict(features.transform(texts))]
