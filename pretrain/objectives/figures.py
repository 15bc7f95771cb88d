"""From summed losses to what an evaluation reports: pure functions, the sums over ranks are the caller's."""

from __future__ import annotations

import math


def perplexity(loss_nats: float) -> float:
    """exp(loss), infinite where that is beyond a float."""
    try:
        return math.exp(loss_nats)
    except OverflowError:
        return math.inf


def bits_per_byte(loss_sum_nats: float, label_bytes: float) -> float | None:
    """Bits that the model needs per UTF-8 byte of text; comparable between tokenizers.

    Args:
        loss_sum_nats: sum of the losses of the label tokens, in nats.
        label_bytes: sum of the UTF-8 bytes of the same tokens; special tokens have none but their loss counts.

    Returns:
        None where there are no bytes.
    """
    if label_bytes <= 0:
        return None
    return loss_sum_nats / math.log(2) / label_bytes
