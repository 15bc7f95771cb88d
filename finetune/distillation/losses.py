"""The loss of what is learned from a teacher.

Shape letters: B samples of a micro-batch, C labels, N predictions, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from finetune.distillation.config import DistillationConfig
from finetune.tasks.label_logits import LabelLogits

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import FinetuneTask

Losses = Callable[[Any, Any, Sequence[int], Any], "torch.Tensor"]


def distillation_losses(
    task: FinetuneTask, config: DistillationConfig, hard: Callable[[LabelLogits, int], torch.Tensor]
) -> Losses:
    """The losses of a training with a teacher, as `FinetuneTask.losses` gives them.

    Args:
        task: says which predictions an example has.
        config: how much is learned of the teacher.
        hard: the loss of the right labels, [B], of the predictions for so many examples.
    """

    def losses(model: Any, part: Any, numbers: Sequence[int], device: Any) -> torch.Tensor:
        import torch

        count = len(numbers)
        found = task.label_logits(model, part, numbers, device)
        network = getattr(model, "module", model)
        # The same pick among what the teacher gave in that forward pass.
        taught = task.label_logits(lambda **inputs: network.taught, part, numbers, device)
        soft_B = soft_losses(found, taught, config.temperature, count)
        total_B = (1 - config.weight) * hard(found, count) + config.weight * soft_B
        if config.hidden_weight:
            owner_R = torch.tensor(task.row_owners(part, numbers), device=device)
            rows_B = torch.zeros(count, device=device).index_add(0, owner_R, torch.ones(len(owner_R), device=device))
            distance_B = torch.zeros(count, device=device).index_add(0, owner_R, network.distance_R)
            weights_B = torch.tensor([part.weights[number] for number in numbers], device=device)
            total_B = total_B + config.hidden_weight * weights_B * distance_B / rows_B
        network.taught = network.distance_R = None
        return total_B

    return losses


def soft_losses(found: LabelLogits, taught: LabelLogits, temperature: float, count: int) -> torch.Tensor:
    """Divergence of the student's distributions from the teacher's, times the squared temperature, [B].

    Hinton et al. 2015, section 2: the square keeps the size of the gradients.

    Args:
        found: the student's predictions.
        taught: the teacher's of the same.
        temperature: divides both logits.
        count: examples.
    """
    own_NC = (found.logits_NC / temperature).log_softmax(-1)
    theirs_NC = (taught.logits_NC / temperature).log_softmax(-1)
    divergence_N = (theirs_NC.exp() * (theirs_NC - own_NC)).sum(-1) * temperature**2
    return own_NC.new_zeros(count).index_add(0, found.owner_N, divergence_N * found.weights_N)
