"""Which tokens a query sees: its own document, the past or both directions, near ones only or all.

Shape letters: B micro-batch, S sequence.
"""

from __future__ import annotations

import weakref
from functools import lru_cache

import torch

_Key = tuple[bool, int | None]
_kept: tuple[weakref.ref[torch.Tensor] | None, dict[_Key, torch.Tensor]] = (None, {})
"""The masks of the micro-batch that was asked for last: its layers share them."""


def visible(
    segment_ids_BS: torch.Tensor | None, like: torch.Tensor, *, is_causal: bool, window: int | None
) -> torch.Tensor | None:
    """True where a query (third axis) sees a key (last axis).

    Args:
        segment_ids_BS: number of each token's document in its sample; None: one document.
        like: a tensor [B, heads, S, head size], for the size and the device.
        is_causal: whether the future is hidden.
        window: tokens to either side that are seen; None: all.

    Returns:
        bool [B, 1, S, S] or [1, 1, S, S]; None where nothing but (with `is_causal`) the future is hidden.
    """
    global _kept
    if segment_ids_BS is None and (window is None or window >= like.shape[2]):
        return None
    if segment_ids_BS is None:
        return _near(like.shape[2], like.device, is_causal=is_causal, window=window)[None, None]
    known, masks = _kept
    if known is None or known() is not segment_ids_BS:
        masks = {}
        _kept = (weakref.ref(segment_ids_BS), masks)
    key = (is_causal, window)
    if key not in masks:
        same_BSS = segment_ids_BS[:, :, None] == segment_ids_BS[:, None, :]
        near_SS = _near(segment_ids_BS.shape[1], segment_ids_BS.device, is_causal=is_causal, window=window)
        masks[key] = (same_BSS & near_SS)[:, None]
    return masks[key]


@lru_cache(maxsize=4)
def _near(length: int, device: torch.device, *, is_causal: bool, window: int | None) -> torch.Tensor:
    places = torch.arange(length, device=device)
    distance_SS = places[:, None] - places[None, :]
    seen_SS = torch.ones_like(distance_SS, dtype=torch.bool)
    if window is not None:
        seen_SS &= distance_SS.abs() <= window
    if is_causal:
        seen_SS &= distance_SS >= 0
    return seen_SS
