"""What sentence vectors are measured against: those of TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.tasks.classification_baselines import text_features
from finetune.tasks.embedding_texts import Floats


def tfidf_vectors(train: Sequence[str], texts: Sequence[str]) -> Floats:
    """Vectors of length 1 of some texts; zeros for a text without a word that training has.

    Args:
        train: texts whose words count; in scripts without spaces, whose runs of characters.
        texts: what vectors are wanted of.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    features = text_features(train)
    vectorizer = TfidfVectorizer(analyzer=features.analyzer, ngram_range=(1, 1), sublinear_tf=True, max_features=20_000)
    try:
        vectorizer.fit(train)
    except ValueError:  # "empty vocabulary": nothing but signs
        return np.zeros((len(texts), 1), dtype=np.float32)
    return np.asarray(vectorizer.transform(texts).toarray(), dtype=np.float32)
