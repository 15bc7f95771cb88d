"""What a classifier is measured against: the most frequent label or mean number, and TF-IDF with a linear model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.tasks.classification_metrics import classification_figures
from finetune.tasks.classify_config import ClassifyConfig
from finetune.tasks.labelled_texts import LabelledText
from finetune.tasks.multi_label_metrics import multi_label_figures
from finetune.tasks.regression_metrics import regression_figures
from finetune.tasks.unspaced import is_unspaced

MAJORITY = "most frequent label"
MEAN = "mean of the training texts"
TFIDF = "TF-IDF + logistic regression"
RIDGE = "TF-IDF + ridge regression"


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
    from sklearn.linear_model import LogisticRegression

    found = tfidf_matrices(train_texts, texts, features)
    if found is None:
        return majority(train_labels, len(texts))
    model = LogisticRegression(max_iter=1000, C=10.0, class_weight="balanced" if balanced else None, random_state=seed)
    model.fit(found[0], train_labels)
    return [int(label) for label in model.predict(found[1])]


def tfidf_matrices(train_texts: Sequence[str], texts: Sequence[str], features: TextFeatures) -> tuple[Any, Any] | None:
    """The texts as sparse vectors, weighted by the training texts; None where those are nothing but signs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(
        analyzer=features.analyzer, ngram_range=(1, features.longest), sublinear_tf=True, max_features=100_000
    )
    try:
        return vectors.fit_transform(train_texts), vectors.transform(texts)
    except ValueError:  # "empty vocabulary"
        return None


def baseline_figures(
    config: ClassifyConfig,
    labels: Sequence[str],
    train: tuple[Sequence[LabelledText], Sequence[Any]],
    part: tuple[Sequence[LabelledText], Sequence[Any]],
) -> dict[str, dict[str, Any]]:
    """Figures on a part of what is most frequent in training, and of TF-IDF with a linear model, by name.

    Args:
        config: of the task: which of them are wanted, and what is asked.
        labels: in the order of their numbers.
        train: the training examples, and the right answers as numbers.
        part: likewise, what is measured.
    """
    texts, others = [example.text for example in train[0]], [example.text for example in part[0]]
    known, gold = train[1], part[1]
    features = text_features(texts)
    systems: dict[str, dict[str, Any]] = {}
    if config.problem_type == "single_label_classification":
        if "majority" in config.baselines:
            systems[MAJORITY] = classification_figures(gold, majority(known, len(gold)), labels, config.seed)
        if "tfidf" in config.baselines:
            balanced = config.class_weights == "balanced"
            found = tfidf(texts, known, others, features=features, balanced=balanced, seed=config.seed)
            systems[TFIDF] = classification_figures(gold, found, labels, config.seed) | {"features": str(features)}
        return systems
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    right, is_regression = np.asarray(known), config.problem_type == "regression"

    def figures(predicted: Any) -> dict[str, Any]:
        if is_regression:
            return regression_figures(gold, np.asarray(predicted).tolist(), config.seed)
        return multi_label_figures(np.asarray(gold), np.asarray(predicted) >= 0.5, labels, seed=config.seed)

    if "majority" in config.baselines:
        usual = right.mean(0)
        systems[MEAN if is_regression else MAJORITY] = figures(np.broadcast_to(usual, (len(gold), *usual.shape)))
    if "tfidf" in config.baselines:
        matrices = tfidf_matrices(texts, others, features)
        model = Ridge() if is_regression else OneVsRestClassifier(LogisticRegression(max_iter=1000, C=10.0))
        if matrices is not None:
            predicted = model.fit(matrices[0], right).predict(matrices[1])
            systems[RIDGE if is_regression else TFIDF] = figures(predicted) | {"features": str(features)}
    return systems
