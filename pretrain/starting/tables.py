"""Which parameters have a row for each token id, or for each position: what may differ between a run and its source.

Found by asking the table of parameters, so that every family's are. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from pretrain.config.model import ModelConfig


def token_tables(model: ModelConfig) -> frozenset[str]:
    """Names of the parameters with a row for each token id."""
    assert model.vocab_size is not None
    more = model.model_copy(update={"vocab_size": model.vocab_size + model.vocab_multiple})
    return frozenset(_differing(model, more))


def position_tables(model: ModelConfig) -> frozenset[str]:
    """Names of the parameters with a row for each position."""
    longest = 2 * longest_text(model)
    # One table of an encoder-decoder serves the longer of its two texts.
    keys = ("seq_length", "decoder_seq_length") if model.is_encoder_decoder else ("seq_length",)
    return frozenset(_differing(model, model.model_copy(update=dict.fromkeys(keys, longest))))


def longest_text(model: ModelConfig) -> int:
    """Tokens in the longest text of a sample: a learned table of positions serves so many."""
    lengths = model.resolved()
    return max(lengths["seq_length"], lengths.get("decoder_seq_length") or 0)


def _differing(one: ModelConfig, other: ModelConfig) -> Iterator[str]:
    for before, after in zip(one.parameters(), other.parameters(), strict=True):
        if before.shape != after.shape:
            yield before.name
