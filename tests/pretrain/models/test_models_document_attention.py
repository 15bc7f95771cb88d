"""Attention by the lengths of documents: equal to the mask's, with a stand-in for the kernel that no CPU has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from pretrain.models import document_attention
from pretrain.models.attention_mask import visible
from pretrain.models.document_attention import attend_within_documents, document_bounds, takes_document_lengths

SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0, 0, 0, -1, -1]])


def varlen_by_hand(
    q_TND: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What torch says that `varlen_attn` computes, a document at a time."""
    assert cu_seq_q.dtype == torch.int32 and int((cu_seq_q[1:] - cu_seq_q[:-1]).max()) <= max_q == max_k
    found = []
    for begin, end in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:]):
        q_NSD, k_GSD, v_GSD = (t[begin:end].transpose(0, 1) for t in (q_TND, k_TGD, v_TGD))
        places = torch.arange(end - begin)
        distance_SS = places[:, None] - places[None, :]
        left, right = (end if side < 0 else side for side in window_size)
        seen_SS = (distance_SS <= left) & (distance_SS >= -right)
        out = functional.scaled_dot_product_attention(
            q_NSD[None], k_GSD[None], v_GSD[None], attn_mask=seen_SS, scale=scale, enable_gqa=enable_gqa
        )
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("window", [None, 2, 64])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("groups", [4, 2])
def test_lengths_say_what_the_mask_says(
    window: int | None, is_causal: bool, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_attention, "_kernel", lambda: varlen_by_hand)
    torch.manual_seed(0)
    q_SBND, k_SBGD, v_SBGD = (torch.randn(10, 2, heads, 8, requires_grad=True) for heads in (4, groups, groups))
    how: dict[str, Any] = {"is_causal": is_causal, "window": window, "scale": 0.3}
    found_SBND = attend_within_documents(q_SBND, k_SBGD, v_SBGD, SEGMENTS, **how)
    q_BNSD, k_BGSD, v_BGSD = (t.permute(1, 2, 0, 3) for t in (q_SBND, k_SBGD, v_SBGD))
    mask_B1SS = visible(SEGMENTS, q_BNSD, is_causal=is_causal, window=window)
    expected_BNSD = functional.scaled_dot_product_attention(
        q_BNSD, k_BGSD, v_BGSD, attn_mask=mask_B1SS, scale=0.3, enable_gqa=groups != 4
    )
    expected_SBND = expected_BNSD.permute(2, 0, 1, 3)
    assert torch.allclose(found_SBND, expected_SBND, atol=1e-6)
    weights = torch.randn_like(found_SBND)
    gradients = [
        torch.autograd.grad((t * weights).sum(), (q_SBND, k_SBGD, v_SBGD)) for t in (found_SBND, expected_SBND)
    ]
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, atol=1e-5)


def test_bounds_are_those_of_every_document_of_every_sample() -> None:
    assert document_bounds(SEGMENTS).tolist() == [0, 3, 5, 10, 18, 20]
    assert document_bounds(SEGMENTS) is document_bounds(SEGMENTS)
    assert document_bounds(SEGMENTS[:1].clone()).tolist() == [0, 3, 5, 10]


class Queries(SimpleNamespace):
    """What is asked of the queries."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**({"is_cuda": True, "dtype": torch.bfloat16, "shape": (10, 2, 4, 64), "device": 0} | changes))


def test_only_where_the_kernel_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))

    def take(queries: Any, segments: Any, dropout: float, keys: Any = None) -> bool:
        return takes_document_lengths(queries, queries if keys is None else keys, segments, dropout)

    assert take(Queries(), SEGMENTS, 0.0)
    assert not take(Queries(), None, 0.0) and not take(Queries(), SEGMENTS, 0.1)
    grouped = Queries(shape=(10, 2, 2, 64))
    monkeypatch.setattr(document_attention, "_knows_groups", lambda: True)
    assert take(Queries(), SEGMENTS, 0.0, grouped)
    monkeypatch.setattr(document_attention, "_knows_groups", lambda: False)
    assert not take(Queries(), SEGMENTS, 0.0, grouped)
    for changes in ({"is_cuda": False}, {"dtype": torch.float32}, {"shape": (1, 1, 1, 12)}, {"shape": (1, 1, 1, 512)}):
        assert not take(Queries(**changes), SEGMENTS, 0.0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not take(Queries(), SEGMENTS, 0.0)


def test_the_kernel_takes_what_it_is_given() -> None:
    """A canary: torch's function has these arguments, in this order."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    names = list(inspect.signature(varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size"} <= set(names)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none")
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("is_causal", [True, False])
def test_the_kernel_computes_what_the_stand_in_does(is_causal: bool, window: int | None) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(10, 2, heads, 32, device="cuda", dtype=torch.bfloat16) for heads in (4, 2, 2))
    segments = SEGMENTS.cuda()
    assert takes_document_lengths(q, k, segments, 0.0)
    found = attend_within_documents(q, k, v, segments, is_causal=is_causal, window=window, scale=None)
    q_BNSD, k_BGSD, v_BGSD = (t.float().permute(1, 2, 0, 3) for t in (q, k, v))
    mask = visible(segments, q_BNSD, is_causal=is_causal, window=window)
    expected = functional.scaled_dot_product_attention(q_BNSD, k_BGSD, v_BGSD, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(found.float(), expected.permute(2, 0, 1, 3), atol=2e-2)
