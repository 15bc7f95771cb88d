"""T5's relative positions: a value for each head and bucket of distances, added to attention scores.

Shape letters: B micro-batch, S tokens, N heads of this tensor rank.
"""

from __future__ import annotations

import math

import torch

from pretrain.models.attention_mask import visible


class RelativePositionBias(torch.nn.Module):
    """The table of one stack, which all its layers share; and the mask, for it is added to the scores, too.

    Args:
        buckets: rows of the table.
        max_distance: from here on all distances are in one bucket.
        heads: of this tensor rank.
        dtype: of the table.
        is_causal: whether the future is hidden; then all buckets are for the past.
    """

    def __init__(self, buckets: int, max_distance: int, heads: int, dtype: torch.dtype, *, is_causal: bool) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(buckets, heads, dtype=dtype)
        self.buckets, self.max_distance, self.is_causal = buckets, max_distance, is_causal

    def forward(self, tokens_BS: torch.Tensor, segment_ids_BS: torch.Tensor | None) -> torch.Tensor:
        """What is added to the scores of each query (third axis) and key (last axis).

        Args:
            tokens_BS: for the length and the device.
            segment_ids_BS: a token sees its own segment only; None: there is one.

        Returns:
            [1, N, S, S], or [B, N, S, S] where there are segments; minus infinity at what is not seen.
        """
        length, device = tokens_BS.shape[1], tokens_BS.device
        places = torch.arange(length, device=device)
        distance_SS = places[None, :] - places[:, None]
        bucket_SS = relative_buckets(distance_SS, self.buckets, self.max_distance, is_bidirectional=not self.is_causal)
        bias_1NSS = self.table(bucket_SS).permute(2, 0, 1)[None]
        seen = None
        if segment_ids_BS is not None:
            seen = visible(segment_ids_BS, bias_1NSS, is_causal=self.is_causal, window=None)
        elif self.is_causal:
            seen = (distance_SS <= 0)[None, None]
        if seen is not None:
            bias_1NSS = bias_1NSS.masked_fill(~seen, -math.inf)
        return bias_1NSS.contiguous()


def relative_buckets(
    distance: torch.Tensor, buckets: int, max_distance: int, *, is_bidirectional: bool
) -> torch.Tensor:
    """The bucket of each distance (place of the key less that of the query), int64, of the same shape.

    Half of the buckets of a direction are for single distances, the others for ranges that grow by a constant factor,
    up to `max_distance`; the last one is for all beyond (Raffel et al. 2020, section 2.1).
    """
    first = torch.zeros_like(distance)
    if is_bidirectional:
        buckets //= 2
        first = (distance > 0).long() * buckets
        apart = distance.abs()
    else:
        apart = (-distance).clamp(min=0)
    single = buckets // 2
    # In fp32, as everybody computes it: the border of a range that is a whole number falls where rounding puts it.
    ratio = torch.log(apart.clamp(min=1).float() / single) / math.log(max_distance / single)
    ranged = (single + (ratio * (buckets - single)).long()).clamp(max=buckets - 1)
    return first + torch.where(apart < single, apart, ranged)
