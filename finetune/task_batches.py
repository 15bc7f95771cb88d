"""A task's examples as the training loop takes them: a rank's micro-batches of a step, validation over all ranks.

Shape letters: B samples of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from finetune import batches
from finetune.label_losses import example_losses
from finetune.tasks.base import EncodedPart, FinetuneTask
from finetune.tasks.base_config import TaskTraining

if TYPE_CHECKING:
    import torch

    from finetune.augmentation.examples import AugmentedExamples
    from finetune.distillation.config import DistillationConfig


class TaskBatches:
    """Batches, losses and validation of a task on one rank.

    Args:
        task: what the examples are for.
        training: batch sizes.
        train: what is learned.
        validation: what chooses the best weights.
        seed: decides the order.
        rank: this process.
        world_size: of how many.
        augmented: gives the training examples of each epoch; None: they are the same in all.
        distillation: what is learned from the teacher in the network; None: there is none.
    """

    def __init__(
        self,
        task: FinetuneTask,
        training: TaskTraining,
        train: EncodedPart,
        validation: EncodedPart,
        *,
        seed: int,
        rank: int,
        world_size: int,
        augmented: AugmentedExamples | None = None,
        distillation: DistillationConfig | None = None,
    ) -> None:
        self.task, self.train, self.validation = task, train, validation
        self.rank, self.world_size = rank, world_size
        self.batch_size = training.batch_size
        self.micro_batch_size = training.micro_batch_size or training.batch_size // world_size
        self.accumulation_steps = self.batch_size // (world_size * self.micro_batch_size)
        self.order = batches.Order(train.lengths, self.batch_size, seed)
        self._losses, self._augmented = example_losses(task, training, distillation), augmented

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every training example is seen once."""
        return self.order.steps_per_epoch

    def losses(self, engine: Any, step: int) -> list[Callable[..., torch.Tensor]]:
        """The micro-batches of this rank in a step, each as a function that computes its loss.

        By the engine, or by a network that it is given.
        """
        train, batch = self.train, self.order.step(step)
        if self._augmented is not None:
            # Batches are of examples of similar length before they were changed: the order stays what it is.
            train = self._augmented.part(step // self.steps_per_epoch, batch)
            batch = list(range(len(batch)))
        mine = batches.share(batch, self.batch_size, self.rank, self.world_size, self.micro_batch_size)
        # DeepSpeed averages over ranks and micro-batches: with this divisor it comes to the mean over all that the
        # step's real examples count. A step in which nothing counts has a loss of 0.
        weights, lengths = train.weights, train.lengths
        counted = sum(weights[number] for number in batch) or 1.0
        divisor = counted / (self.world_size * len(mine))
        shortest = min(batch, key=lambda number: lengths[number])
        return [partial(self._loss, engine.device, train, numbers, shortest, divisor, engine) for numbers in mine]

    def evaluate(self, engine: Any) -> Mapping[str, float]:
        """Validation figures, the same on every rank. Collective."""
        import torch.distributed as dist

        grouped = batches.by_length(self.validation.lengths, self.micro_batch_size)
        # Every rank computes as many batches, of which the surplus ones count for nothing.
        rounds = -(-len(grouped) // self.world_size)
        mine = [grouped[min(n * self.world_size + self.rank, len(grouped) - 1)] for n in range(rounds)]
        predict = self.task.predict_validation
        found = predictions(predict, engine, self.validation, mine, engine.device)
        gathered: list[dict[int, Any]] = [{}] * self.world_size
        dist.all_gather_object(gathered, found)
        merged = {number: predicted for part in gathered for number, predicted in part.items()}
        ordered = [merged[number] for number in range(len(self.validation.lengths))]
        return self.task.validation_figures(self.validation, ordered)

    def _loss(
        self,
        device: Any,
        train: EncodedPart,
        numbers: list[int],
        filler: int,
        divisor: float,
        engine: Any,
        network: Any = None,
    ) -> torch.Tensor:
        import torch

        # A place without an example repeats a short one, with no weight.
        real_B = torch.tensor([number >= 0 for number in numbers], dtype=torch.float32, device=device)
        chosen = [number if number >= 0 else filler for number in numbers]
        losses_B = self._losses(engine if network is None else network, train, chosen, device)
        if losses_B.shape != real_B.shape:
            name = type(self.task).__name__
            raise ValueError(f"{name}.losses gave the shape {tuple(losses_B.shape)} for {len(numbers)} examples")
        return (losses_B.float() * real_B).sum() / divisor


def predictions(
    predict: Callable[[Any, Any, Sequence[int], Any], Sequence[Any]],
    model: Any,
    part: EncodedPart,
    groups: Sequence[Sequence[int]],
    device: Any,
) -> dict[int, Any]:
    """What a model says of examples, by their number.

    Args:
        predict: `predict` or `predict_validation` of a task.
        model: a network, or an engine around one; left in evaluation mode.
        part: the encoded examples.
        groups: numbers of the examples of each batch.
        device: where the model is.
    """
    import torch

    model.eval()
    found: dict[int, Any] = {}
    with torch.no_grad():
        for numbers in groups:
            found |= dict(zip(numbers, predict(model, part, numbers, device), strict=True))
    return found
