"""Buckets of relative positions, and what the encoder-decoders drop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pretrain.data.batch import MicroBatch
from pretrain.engine.single import reference_outputs
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.encoder_decoder.relative_bias import RelativePositionBias, relative_buckets
from pretrain.models.encoder_decoder.stage import cross_visible
from pretrain.models.encoder_decoder.t5_config import T5Config

SIZES: dict[str, Any] = {"num_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 32}


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 20), (8, 64), (4, 3)])
@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_buckets_are_those_of_transformers(buckets: int, max_distance: int, is_bidirectional: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = torch.arange(-300, 301)
    expected = t5.T5Attention._relative_position_bucket(distance, is_bidirectional, buckets, max_distance)
    found = relative_buckets(distance, buckets, max_distance, is_bidirectional=is_bidirectional)
    assert torch.equal(found, expected)


def test_a_bias_hides_the_future_and_other_segments() -> None:
    bias = RelativePositionBias(8, 20, 2, torch.float32, is_causal=True)
    tokens, segments = torch.zeros(2, 4, dtype=torch.long), torch.tensor([[0, 0, 0, 0], [0, 0, -1, -1]])
    seen = bias(tokens, segments)[:, 0] > -torch.inf
    assert seen[0].tolist() == torch.ones(4, 4).tril().bool().tolist()
    assert seen[1].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert bias(tokens, None).shape == (1, 2, 4, 4)


def test_the_decoder_sees_neither_padding_nor_what_is_hidden() -> None:
    segments, visible = torch.tensor([[0, 0, -1]]), torch.tensor([[True, False, True]])
    assert cross_visible(None, None) is None
    text = cross_visible(segments, None)
    both = cross_visible(segments, visible)
    assert text is not None and both is not None
    assert text.tolist() == [[True, True, False]] and both.tolist() == [[True, False, False]]


def logits(model: EncoderDecoderConfig, batch: MicroBatch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    tensors = {spec.name: torch.randn(spec.shape, generator=generator) * 0.5 for spec in model.parameters()}
    return reference_outputs(model, tensors, batch)["logits"]


def test_what_is_hidden_does_not_change_the_output() -> None:
    model = T5Config(**SIZES, seq_length=6, decoder_seq_length=4)
    tokens, targets = torch.randint(0, 32, (1, 6)), torch.randint(0, 32, (1, 4))
    places = torch.arange(6)[None]
    extras = {
        "decoder_tokens_BT": targets,
        "decoder_position_ids_BT": places[:, :4],
        "cross_visible_BS": torch.tensor([[True, True, True, True, False, True]]),
    }
    segments = torch.tensor([[0, 0, 0, 0, 0, -1]])
    batch = MicroBatch(tokens, targets, torch.ones(1, 4), places, segments, extras=extras)
    before = logits(model, batch)
    padding, later = tokens.clone(), targets.clone()
    padding[0, 5] = (padding[0, 5] + 1) % 32
    later[0, 3] = (later[0, 3] + 1) % 32
    assert torch.equal(logits(model, replace(batch, tokens_BS=padding)), before)
    after = logits(model, replace(batch, extras=extras | {"decoder_tokens_BT": later}))
    assert torch.equal(after[:, :3], before[:, :3]) and not torch.equal(after[:, 3], before[:, 3])
    # The encoder sees what is hidden from the decoder alone.
    hidden = tokens.clone()
    hidden[0, 4] = (hidden[0, 4] + 1) % 32
    assert not torch.equal(logits(model, replace(batch, tokens_BS=hidden)), before)
