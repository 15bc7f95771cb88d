"""From summed losses to what a validation reports: pure functions, the sums over ranks are the caller's."""

from __future__ import annotations

import math

from pretrain.monitor.records import EvalRecord


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


def eval_record(
    step: int, name: str, *, loss_sum_nats: float, label_tokens: float, label_bytes: float | None
) -> EvalRecord:
    """The record of one validation set from its sums over all ranks.

    Args:
        step: the last finished step.
        name: name of the set.
        loss_sum_nats: sum of the losses of the label tokens.
        label_tokens: how many label tokens there were (loss mask summed).
        label_bytes: their UTF-8 bytes; None where they are not known.

    Raises:
        ValueError: if there are no label tokens.
    """
    if label_tokens <= 0:
        raise ValueError(f"validation set {name!r} has no label tokens")
    loss = loss_sum_nats / label_tokens
    per_byte = None if label_bytes is None else bits_per_byte(loss_sum_nats, label_bytes)
    return EvalRecord(step=step, name=name, loss=loss, perplexity=perplexity(loss), bits_per_byte=per_byte)
