"""A unigram model, which knows only how often each token occurs: the baseline of the losses of evaluations."""

from __future__ import annotations

import numpy as np

from pretrain.data.stream import SampleStream

MOST_READ_TOKENS = 200_000_000
"""Bare prefixes of more tokens together are not read for the sake of their frequencies."""


def unigram_nats(train: SampleStream, never_labels: np.ndarray | None = None) -> np.ndarray | None:
    """What each id costs as a label under the token frequencies of the training mixture, nats, float64 [vocab_size].

    Frequencies are those of the whole training corpora, weighted as the mixture is, with half an occurrence added to
    every id so that none is impossible.

    Args:
        train: the training stream.
        never_labels: ids that are never asked for, such as the special ones of a masked objective: the others share
            what they have, and they themselves cost 0.

    Returns:
        None where training corpora are bare prefixes, whose ids nobody has counted, of more than `MOST_READ_TOKENS`.
    """
    bare = [part.corpus for part in train.parts if part.corpus.manifest is None]
    if sum(corpus.num_tokens for corpus in bare) > MOST_READ_TOKENS:
        return None
    shares = np.zeros(train.vocab_size)
    for part, share in zip(train.parts, train.blend.shares):
        counts = np.zeros(train.vocab_size)
        found = part.corpus.token_counts()[: train.vocab_size]
        counts[: len(found)] = found
        shares += share * (counts + 0.5) / (counts + 0.5).sum()
    if never_labels is None:
        return -np.log(shares)
    shares[never_labels] = 0.0
    shares /= shares.sum()
    return -np.log(np.where(shares > 0, shares, 1.0))
