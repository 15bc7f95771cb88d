"""Loss of a unigram model, which knows only how often each token occurs: the baseline of a validation loss."""

from __future__ import annotations

import numpy as np

from pretrain.data.stream import SampleStream

_BATCH = 64


def unigram_loss_nats(
    train: SampleStream, stream: SampleStream, max_samples: int, never_labels: np.ndarray | None = None
) -> float:
    """Cross-entropy of a stream's labels under the token frequencies of the training mixture, nats per token.

    Frequencies are those of the whole training corpora, weighted as the mixture is, with half an occurrence added to
    every id so that none is impossible.

    Args:
        train: the training stream.
        stream: the validation stream whose labels are predicted.
        max_samples: how many of its samples, from its beginning, are looked at.
        never_labels: ids that are never asked for, such as the special ones of a masked objective.
    """
    shares = _training_shares(train)
    counts = label_counts(stream, max_samples)
    if never_labels is not None:
        counts[never_labels] = 0
        shares[never_labels] = 0.0
        shares = np.where(shares > 0, shares, 1.0) / shares.sum()
    return float(-(counts * np.log(shares)).sum() / counts.sum())


def unigram_entropy_nats(stream: SampleStream, max_samples: int) -> float:
    """Entropy of the frequencies of a stream's own labels, nats per token."""
    counts = label_counts(stream, max_samples)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def label_counts(stream: SampleStream, max_samples: int) -> np.ndarray:
    """How often each id is a label in the first samples of a stream, int64 [vocab_size]."""
    end = max_samples if stream.num_samples is None else min(max_samples, stream.num_samples)
    counts = np.zeros(stream.vocab_size, dtype=np.int64)
    for begin in range(0, end, _BATCH):
        samples = stream.read(np.arange(begin, min(begin + _BATCH, end)))
        overlap = stream.sampling.overlap_tokens
        labels = samples.tokens[:, overlap:]
        counting = np.arange(labels.shape[1]) < samples.num_tokens[:, None] - overlap
        counts += np.bincount(labels[counting], minlength=stream.vocab_size)
    return counts


def _training_shares(train: SampleStream) -> np.ndarray:
    shares = np.zeros(train.vocab_size)
    for part, share in zip(train.parts, train.blend.shares):
        counts = np.zeros(train.vocab_size)
        found = part.corpus.token_counts()[: train.vocab_size]
        counts[: len(found)] = found
        shares += share * (counts + 0.5) / (counts + 0.5).sum()
    return shares
