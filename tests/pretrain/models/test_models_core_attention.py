"""The attention of all models: capped scores step by step, windows by a mask or by the lengths of documents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from test_models_document_attention import SEGMENTS, varlen_by_hand

from pretrain.models import document_attention, layers
from pretrain.models.layers import CoreAttention


def attention(window: int | None = None, softcap: float | None = None, is_causal: bool = True) -> CoreAttention:
    config = TransformerConfig(num_layers=1, hidden_size=32, num_attention_heads=4, attention_dropout=0.0)
    kind = AttnMaskType.causal if is_causal else AttnMaskType.padding
    made = CoreAttention(config, 1, kind, "self", pg_collection=SimpleNamespace(tp=SimpleNamespace(rank=lambda: 0)))
    made.window, made.softcap = window, softcap
    return made


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(10, 2, heads, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2)]


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
@pytest.mark.parametrize("is_causal", [True, False])
def test_a_high_cap_changes_nothing(window: int | None, segments: torch.Tensor | None, is_causal: bool) -> None:
    given = inputs()
    plain, capped = (attention(window, cap, is_causal)(*given, segments) for cap in (None, 1e4))
    assert torch.allclose(plain, capped, atol=1e-5)
    weights = torch.randn_like(plain)
    gradients = [torch.autograd.grad((found * weights).sum(), given) for found in (plain, capped)]
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, atol=1e-4)


def test_capped_scores_are_those_of_the_definition() -> None:
    q, k, v = (10 * tensor.detach() for tensor in inputs())
    found = attention(softcap=2.0)(q, k, v, None).view(10, 2, 4, 8)
    for head in range(4):
        scores = q[7, 1, head] @ k[:8, 1, head // 2].T / 8**0.5
        weights = torch.softmax(2.0 * torch.tanh(scores / 2.0), -1)
        assert torch.allclose(found[7, 1, head], weights @ v[:8, 1, head // 2], atol=1e-4)


@pytest.mark.parametrize(("window", "softcap", "by_lengths"), [(3, None, True), (3, 2.0, False), (64, None, False)])
def test_a_window_over_whole_samples_is_read_by_lengths_where_the_kernel_takes_them(
    window: int, softcap: float | None, by_lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs()
    expected = attention(window, softcap)(*given, None)
    calls: list[Any] = []

    def kernel(*arguments: Any, **how: Any) -> torch.Tensor:
        calls.append(arguments[3].tolist())
        return varlen_by_hand(*arguments, **how)

    monkeypatch.setattr(document_attention, "_kernel", lambda: kernel)
    monkeypatch.setattr(layers, "takes_document_lengths", lambda q, k, documents, dropout: documents is not None)
    assert torch.allclose(attention(window, softcap)(*given, None), expected, atol=1e-6)
    assert calls == ([[0, 10, 20]] if by_lengths else [])
