"""Attention by the lengths of documents, in place of a mask, where the kernel takes them.

torch's `varlen_attn` (flash attention) reads each document as a sequence of its own, so that nothing is computed that
a mask would hide. It wants a GPU, half precision and no dropout; elsewhere `attention_mask` says the same.

Shape letters: B micro-batch, S sequence, N query heads, G key/value heads, D head size, T all tokens.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch

_OLDEST_CAPABILITY = (8, 0)
_LARGEST_HEAD = 256
_kept: tuple[weakref.ref[torch.Tensor] | None, torch.Tensor | None] = (None, None)
"""The bounds of the documents of the micro-batch that was asked for last: its layers share them."""


def takes_document_lengths(
    q_SBND: torch.Tensor, k_SBGD: torch.Tensor, segment_ids_BS: torch.Tensor | None, dropout: float
) -> bool:
    """Whether `attend_within_documents` can compute this.

    Args:
        q_SBND: queries; their device, precision and head size decide.
        k_SBGD: keys; torch 2.11 wants as many heads as the queries have.
        segment_ids_BS: see there; None: there are no documents to tell apart.
        dropout: of the attention.
    """
    return (
        segment_ids_BS is not None
        and dropout == 0.0
        and q_SBND.is_cuda
        and q_SBND.dtype in (torch.float16, torch.bfloat16)
        and q_SBND.shape[-1] % 8 == 0
        and q_SBND.shape[-1] <= _LARGEST_HEAD
        and torch.cuda.get_device_capability(q_SBND.device) >= _OLDEST_CAPABILITY
        and (q_SBND.shape[2] == k_SBGD.shape[2] or _knows_groups())
    )


def attend_within_documents(
    q_SBND: torch.Tensor,
    k_SBGD: torch.Tensor,
    v_SBGD: torch.Tensor,
    segment_ids_BS: torch.Tensor,
    *,
    is_causal: bool,
    window: int | None,
    scale: float | None,
) -> torch.Tensor:
    """softmax(Q K^T) V of each document by itself.

    Args:
        q_SBND: queries.
        k_SBGD: keys.
        v_SBGD: values.
        segment_ids_BS: the number of each token's document within the sample; a document's tokens stand together.
        is_causal: whether the future is hidden.
        window: tokens to either side that are seen; None: all of the document.
        scale: of the products; None: 1 / sqrt(D).

    Returns:
        The attended values, [S, B, N, D].
    """
    length, batch = q_SBND.shape[:2]
    q_TND, k_TGD, v_TGD = (t.transpose(0, 1).reshape(batch * length, *t.shape[2:]) for t in (q_SBND, k_SBGD, v_SBGD))
    bounds = document_bounds(segment_ids_BS)
    side = -1 if window is None or window >= length else window
    grouped = {"enable_gqa": True} if q_TND.shape[1] != k_TGD.shape[1] else {}
    out_TND: torch.Tensor = _kernel()(
        q_TND,
        k_TGD,
        v_TGD,
        bounds,
        bounds,
        length,
        length,
        scale=scale,
        window_size=(side, 0 if is_causal else side),
        **grouped,
    )
    return out_TND.view(batch, length, *out_TND.shape[1:]).transpose(0, 1)


@lru_cache(maxsize=2)
def whole_samples(batch: int, length: int, device: torch.device) -> torch.Tensor:
    """Document numbers of samples that are one document each, int64 [B, S]; the same tensor at every call."""
    return torch.zeros(batch, length, dtype=torch.int64, device=device)


def document_bounds(segment_ids_BS: torch.Tensor) -> torch.Tensor:
    """Where each document begins among the tokens of all samples, one sample after the other, and where the last ends.

    Returns:
        int32 [documents + 1], on the device of `segment_ids_BS`. A micro-batch is asked for once: it waits for the GPU.
    """
    global _kept
    known, bounds = _kept
    if known is None or known() is not segment_ids_BS or bounds is None:
        begins_BS = torch.ones_like(segment_ids_BS, dtype=torch.bool)
        begins_BS[:, 1:] = segment_ids_BS[:, 1:] != segment_ids_BS[:, :-1]
        firsts = begins_BS.flatten().nonzero().flatten()
        bounds = torch.nn.functional.pad(firsts, (0, 1), value=segment_ids_BS.numel()).to(torch.int32)
        _kept = (weakref.ref(segment_ids_BS), bounds)
    return bounds


@cache
def _knows_groups() -> bool:
    return "enable_gqa" in inspect.signature(_kernel()).parameters


def _kernel() -> Callable[..., Any]:
    # Imported when used: building the operators takes a moment, and no CPU has them.
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn
