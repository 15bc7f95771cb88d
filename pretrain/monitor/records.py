"""What the training loop tells the monitor: one value per step, one per validation set, one at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepRecord:
    """One finished step of the run.

    Attributes:
        step: number of the step, the first one being 1; skipped steps count.
        consumed_samples: samples read so far, over all ranks and sessions.
        consumed_tokens: tokens read so far, over all ranks and sessions.
        loss: mean training loss of the step's global batch, in nats per token.
        grad_norm: global gradient norm before clipping.
        learning_rate: rate that the step used.
        param_norm: global norm of the weights; None where it was not computed.
        global_batch_size: samples of this step, over all ranks.
        step_time_s: wall time of the step, waiting for data included.
        data_time_s: part of it that was spent waiting for data.
        skipped: whether the update was left out because loss or gradient was not finite.
        skipped_total: steps left out so far.
        loss_scale: the fp16 loss scale; None for other precisions.
        host_memory_bytes: resident memory, largest over the ranks; None: this process' own is read.
        device_memory_bytes: peak device memory, largest over the ranks; None: this process' own is read.
    """

    step: int
    consumed_samples: int
    consumed_tokens: int
    loss: float
    grad_norm: float
    learning_rate: float
    param_norm: float | None
    global_batch_size: int
    step_time_s: float
    data_time_s: float
    skipped: bool
    skipped_total: int
    loss_scale: float | None
    host_memory_bytes: int | None = None
    device_memory_bytes: int | None = None


@dataclass(frozen=True)
class EvalRecord:
    """One validation (or test) set after one step.

    Attributes:
        step: the last finished step.
        name: name of the set.
        loss: mean loss in nats per token.
        perplexity: exp(loss); infinite where that overflows.
        bits_per_byte: loss per UTF-8 byte of the predicted text, in bits; None where the bytes are not known.
    """

    step: int
    name: str
    loss: float
    perplexity: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class RunOutcome:
    """What the loop knows when it ends.

    Attributes:
        ended_by: `finished`, the name of the signal, or `diverged`.
        step: the last finished step.
        total_steps: steps that the run was to have; None where it ends by time.
        consumed_tokens: tokens read over all sessions.
        skipped_steps: steps without an update over all sessions.
        num_parameters: weights of the model.
        layout: how the ranks were used, in words.
        device_name: `cpu` or the accelerator's name.
        unigram_loss: entropy of the corpus' token frequencies in nats per token; None where it is not known.
        checkpoint: the newest complete checkpoint; None where there is none.
    """

    ended_by: str
    step: int
    total_steps: int | None
    consumed_tokens: int
    skipped_steps: int
    num_parameters: int
    layout: str
    device_name: str
    unigram_loss: float | None
    checkpoint: Path | None
