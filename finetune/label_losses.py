"""Losses on a task's distributions over labels: cross-entropy with smoothed labels, and R-Drop.

Shape letters: B samples of a micro-batch, C labels, N predictions (a text's label, the labels of its tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from finetune.distillation.config import DistillationConfig
from finetune.distillation.losses import distillation_losses
from finetune.tasks.label_logits import LabelLogits

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import FinetuneTask
    from finetune.tasks.base_config import TaskTraining

Losses = Callable[[Any, Any, Sequence[int], Any], "torch.Tensor"]
"""What `FinetuneTask.losses` is: (model, part, numbers, device) -> the loss of each example, [B]."""


def example_losses(
    task: FinetuneTask, training: TaskTraining, distillation: DistillationConfig | None = None
) -> Losses:
    """The losses that a training minimizes: the task's own, or those with the regularisers that were asked for.

    Args:
        task: has losses and label logits of its own.
        training: says which regularisers.
        distillation: what else is learned from a teacher; None: there is none.

    Raises:
        ConfigError: label smoothing or R-Drop for a task whose loss is no cross-entropy over labels.
    """
    smoothing, r_drop = training.label_smoothing, training.r_drop
    if distillation is not None:
        if not task.gives_label_logits():
            raise ConfigError(
                "is given, and the loss of this task is no cross-entropy over labels", where="distillation"
            )

        def hard(found: LabelLogits, count: int) -> torch.Tensor:
            return smoothed_cross_entropy(found, smoothing, count)

        return distillation_losses(task, distillation, hard)
    if not smoothing and not r_drop:
        return task.losses
    if not task.gives_label_logits():
        key = "training.label_smoothing" if smoothing else "training.r_drop"
        raise ConfigError(
            f"is {smoothing or r_drop}, and the loss of this task is no cross-entropy over labels",
            where=key,
            expected="0",
        )

    def losses(model: Any, part: Any, numbers: Sequence[int], device: Any) -> torch.Tensor:
        count = len(numbers)
        if not r_drop:
            return smoothed_cross_entropy(task.label_logits(model, part, numbers, device), smoothing, count)
        # Both passes as one batch, as the authors do: each row drops out by itself.
        found = task.label_logits(model, part, [*numbers, *numbers], device)
        both_B = smoothed_cross_entropy(found, smoothing, 2 * count).view(2, count).mean(0)
        return both_B + r_drop * symmetric_divergence(found, count)

    return losses


def smoothed_cross_entropy(found: LabelLogits, smoothing: float, count: int) -> torch.Tensor:
    """Cross-entropy of each of `count` examples, [B], to labels of which `smoothing` is spread over all evenly.

    Szegedy et al. 2016, section 7; as torch's `cross_entropy(label_smoothing=...)`.
    """
    log_p_NC = found.logits_NC.log_softmax(-1)
    right_N = log_p_NC.gather(-1, found.gold_N[:, None])[:, 0]
    losses_N = -(1 - smoothing) * right_N - smoothing * log_p_NC.mean(-1)
    return _by_example(losses_N * found.weights_N, found.owner_N, count)


def symmetric_divergence(found: LabelLogits, count: int) -> torch.Tensor:
    """Mean of both Kullback-Leibler divergences between two passes over `count` examples, [B].

    Liang et al. 2021 (R-Drop), equation 2.

    Args:
        found: the predictions of the first pass, then those of the second.
        count: examples of one pass.
    """
    first_NC, second_NC = found.logits_NC.log_softmax(-1).chunk(2)
    divergence_N = 0.5 * ((first_NC.exp() - second_NC.exp()) * (first_NC - second_NC)).sum(-1)
    half = len(divergence_N)
    return _by_example(divergence_N * found.weights_N[:half], found.owner_N[:half], count)


def _by_example(values_N: torch.Tensor, owner_N: torch.Tensor, count: int) -> torch.Tensor:
    return values_N.new_zeros(count).index_add(0, owner_N, values_N)
