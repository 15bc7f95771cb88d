"""Dropout of the residual stream: one mask in every layout, whatever the attention draws beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from megatron.core import parallel_state
from megatron.core.fusions import fused_bias_dropout
from megatron.core.transformer.enums import AttnMaskType

from pretrain.models import dropout_seeds
from pretrain.models.hidden_dropout import HiddenDropout, bias_dropout_add_of
from pretrain.models.layers import CoreAttention

SHAPE = (8, 3, 64)


def config(probability: float = 0.25, parts: int = 1) -> Any:
    return SimpleNamespace(
        hidden_dropout=probability, tensor_model_parallel_size=max(parts, 1), sequence_parallel=parts > 1
    )


def seeded(seed: int = 1) -> None:
    dropout_seeds.default_generator().manual_seed(seed)


@pytest.mark.parametrize("parts", [2, 4])
def test_ranks_of_a_split_sequence_keep_their_parts_of_the_whole_mask(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded()
    whole = HiddenDropout(config()).mask(torch.empty(SHAPE))
    assert 0.65 < whole.float().mean() < 0.85
    found = []
    for rank in range(parts):
        monkeypatch.setattr(parallel_state, "get_tensor_model_parallel_rank", lambda rank=rank: rank)
        seeded()
        found.append(HiddenDropout(config(parts=parts)).mask(torch.empty(SHAPE[0] // parts, *SHAPE[1:])))
    assert torch.equal(torch.cat(found), whole)


def test_what_is_kept_is_scaled_up_and_evaluation_drops_nothing() -> None:
    dropout, stream = HiddenDropout(config()), torch.ones(SHAPE, requires_grad=True)
    seeded()
    dropped = dropout(stream)
    seeded()
    torch.testing.assert_close(dropped, dropout.mask(stream) / 0.75)
    dropped.sum().backward()
    assert torch.equal(stream.grad, dropped)
    assert dropout.eval()(stream) is stream
    assert HiddenDropout(config(0.0))(stream) is stream


def test_a_layer_adds_bias_and_residual_around_it() -> None:
    x, bias, residual = torch.randn(SHAPE), torch.randn(SHAPE[-1]), torch.randn(SHAPE)
    add = bias_dropout_add_of(config())(True, True)
    for given, plain in (((x, bias), x + bias), ((x, None), x)):
        seeded()
        found = add(given, residual, 0.25)
        seeded()
        torch.testing.assert_close(found, residual + HiddenDropout(config())(plain))


def test_where_nothing_is_dropped_it_is_megatron_s_which_may_be_fused() -> None:
    get = bias_dropout_add_of(config(0.0))
    assert get(True, True) is fused_bias_dropout.bias_dropout_add_fused_train
    assert bias_dropout_add_of(config())(False, True) is fused_bias_dropout.bias_dropout_add_fused_inference
    x = torch.randn(SHAPE)
    torch.testing.assert_close(get(True, False)((x, None), x, 0.0), 2 * x)


def attention(rank: int) -> CoreAttention:
    group = SimpleNamespace(tp=SimpleNamespace(rank=lambda: rank))
    transformer = SimpleNamespace(attention_dropout=0.5)
    return CoreAttention(transformer, 1, AttnMaskType.causal, "self", pg_collection=group)  # type: ignore[arg-type]


def test_attention_draws_per_tensor_rank_and_leaves_the_stream_of_the_others_alone() -> None:
    heads = [torch.randn(6, 2, 2, 8) for _ in range(3)]
    seeded()
    undisturbed = torch.rand(4)
    outputs = []
    for rank in (0, 1):
        seeded()
        outputs.append(attention(rank)(*heads, None))
        assert torch.equal(torch.rand(4), undisturbed)
    assert not torch.equal(*outputs)
