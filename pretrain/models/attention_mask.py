"""Which tokens a query sees: its own document, the past or both directions, a prefix, near ones only or all.

Shape letters: B micro-batch, S sequence.
"""

from __future__ import annotations

import weakref
from functools import lru_cache

import torch

_Key = tuple[bool, int | None]
_kept: tuple[weakref.ref[torch.Tensor] | None, dict[_Key, torch.Tensor]] = (None, {})
"""The masks of the micro-batch that was asked for last: its layers share them."""


def seen_by(segment_ids_BS: torch.Tensor | None, prefix_lengths_B: torch.Tensor | None) -> torch.Tensor | None:
    """What a causal model hands to its layers where megatron has its mask: a tensor, so that recompute can keep it.

    Args:
        segment_ids_BS: number of each token's document in its sample; a query sees its own only.
        prefix_lengths_B: how many tokens of each sample see each other at its beginning.

    Raises:
        ValueError: there are both.
    """
    if segment_ids_BS is not None and prefix_lengths_B is not None:
        raise ValueError("a batch has both documents apart and prefixes, which no attention here knows")
    return segment_ids_BS if prefix_lengths_B is None else prefix_lengths_B


def told_apart(seen: torch.Tensor | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What `seen_by` was given: the lengths of prefixes have one dimension, document numbers two."""
    if seen is None or seen.dim() == 2:
        return seen, None
    return None, seen


def visible(
    segment_ids_BS: torch.Tensor | None,
    like: torch.Tensor,
    *,
    is_causal: bool,
    window: int | None,
    prefix_lengths_B: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """True where a query (third axis) sees a key (last axis).

    Args:
        segment_ids_BS: number of each token's document in its sample; None: one document.
        like: a tensor [B, heads, S, head size], for the size and the device.
        is_causal: whether the future is hidden.
        window: tokens to either side that are seen; None: all.
        prefix_lengths_B: how many tokens at the beginning of each sample no query is kept from seeing by `is_causal`.

    Returns:
        bool [B, 1, S, S] or [1, 1, S, S]; None where nothing but (with `is_causal`) the future is hidden.
    """
    global _kept
    told = prefix_lengths_B if segment_ids_BS is None else segment_ids_BS
    if told is None and (window is None or window >= like.shape[2]):
        return None
    if told is None:
        return _near(like.shape[2], like.device, window=window, is_causal=is_causal)[None, None]
    known, masks = _kept
    if known is None or known() is not told:
        masks = {}
        _kept = (weakref.ref(told), masks)
    key = (is_causal, window)
    if key not in masks:
        masks[key] = _mask(segment_ids_BS, prefix_lengths_B, like, is_causal=is_causal, window=window)[:, None]
    return masks[key]


def _mask(
    segment_ids_BS: torch.Tensor | None,
    prefix_lengths_B: torch.Tensor | None,
    like: torch.Tensor,
    *,
    is_causal: bool,
    window: int | None,
) -> torch.Tensor:
    length, device = like.shape[2], like.device
    seen_SS = _near(length, device, is_causal=is_causal, window=window)
    if prefix_lengths_B is not None:
        in_prefix_BS = torch.arange(length, device=device) < prefix_lengths_B[:, None]
        return seen_SS | (in_prefix_BS[:, None, :] & _near(length, device, is_causal=False, window=window))
    assert segment_ids_BS is not None
    return (segment_ids_BS[:, :, None] == segment_ids_BS[:, None, :]) & seen_SS


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
