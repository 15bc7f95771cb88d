"""What a fine-tuning task has to do: examples -> numbers -> loss -> predictions -> figures; the rest is `run_task.py`.

Shape letters: B samples of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.tasks.label_logits import LabelLogits

FINE_TUNED = "fine-tuned"
"""What the trained system is called beside the baselines."""
FROM_SCRATCH = "from scratch"
"""What the same network is called that was trained from random weights."""


class EncodedPart(Protocol):
    """The examples of one part as numbers, in their order. A task adds what its loss and its figures need."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example: similar ones are batched together."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """What each example is divided by in the mean loss of a step: 1, or how many labels it has."""
        ...


class TextChanger(Protocol):
    """What changes the texts of an example in an epoch (`finetune/augmentation/`)."""

    def text(self, text: str) -> str:
        """A text, changed."""
        ...

    def words(self, words: Sequence[str], held: Sequence[bool]) -> list[tuple[int, str]]:
        """Words that stand for one each: those that stay, by their numbers, changed.

        Args:
            words: of a text.
            held: of each whether it stays in any case.
        """
        ...


class FinetuneTask(Protocol):
    """One thing that a pretrained model can learn from examples. Made with (its config,); a base class of the tasks.

    Every process makes one and calls the same methods in the same order. The methods without a body here have to be
    written; the others have a default.
    """

    def read(self) -> Mapping[str, Sequence[Any]]:
        """The examples of each part: `train` and `validation`, and those that are only measured, such as `test`.

        The same on every rank; called first, before anything heavy is imported.

        Raises:
            UserError: unreadable or malformed examples.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What the record says of the examples, JSON-able."""
        return {}

    def encode(self, pretrained: PretrainedModel, examples: Sequence[Any]) -> EncodedPart:
        """Examples as numbers.

        Raises:
            UserError: the pretrained model or its tokenizer does not fit the task.
        """
        ...

    def changed(self, example: Any, changer: TextChanger) -> Any:
        """A training example with other texts and the same answer.

        A task of which `TaskConfig.augments` names no changes does not write this method.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} has no texts that may change")

    def describe(self, encoded: Mapping[str, Any]) -> Iterator[str]:
        """Lines for the console on what was read, before training."""
        for part, examples in encoded.items():
            yield f"{part:<10}  {len(examples.lengths):>6,} examples"

    def warnings(self, pretrained: PretrainedModel) -> Iterator[str]:
        """What the user should know of this model before it is trained; goes to standard error."""
        yield from ()

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """The network in fp32 on the CPU; what is new in it is random (torch's generator decides).

        Args:
            pretrained: gives the architecture and the weights.
            from_scratch: whether all its weights are random.
        """
        ...

    def losses(self, model: Any, part: Any, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """The loss of each of a few examples, summed over what `weights` counts in it; fp32 [B].

        The loss of a step is the sum over its examples, over all ranks, divided by the sum of their `weights`.

        Args:
            model: an engine around the network, in training mode.
            part: the encoded training part.
            numbers: which of its examples.
            device: where the model is.
        """
        ...

    def gives_label_logits(self) -> bool:
        """Whether `losses` is a cross-entropy over labels, whose logits `label_logits` gives."""
        return type(self).label_logits is not FinetuneTask.label_logits

    def label_logits(self, model: Any, part: Any, numbers: Sequence[int], device: torch.device) -> LabelLogits:
        """What the model predicts for a few examples: without regularisers, `losses` is its cross-entropy.

        Label smoothing and R-Drop need it; a task whose loss is another one does not write this method. Arguments as
        of `losses`.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} gives no distribution over labels")

    def teacher_network(self, folder: Path, pretrained: PretrainedModel, part: Any) -> torch.nn.Module:
        """A saved model from which another one learns this task, in fp32 on the CPU; it takes the same inputs.

        A task whose `TaskConfig.distils` is false does not write this method.

        Args:
            folder: where it is.
            pretrained: what learns from it.
            part: the encoded training part, which both read.

        Raises:
            UserError: it reads or says other things.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} has no teachers")

    def row_owners(self, part: Any, numbers: Sequence[int]) -> list[int]:
        """Of each row that the model reads of a few examples, the place of its example among `numbers`."""
        return list(range(len(numbers)))

    def predict(self, model: Any, part: Any, numbers: Sequence[int], device: torch.device) -> Sequence[Any]:
        """What the model says of each of a few examples; picklable, on the CPU.

        Args:
            model: the network, or an engine around it, in evaluation mode; no gradients are kept.
            part: an encoded part.
            numbers: which of its examples.
            device: where the model is.
        """
        ...

    def predict_validation(self, model: Any, part: Any, numbers: Sequence[int], device: torch.device) -> Sequence[Any]:
        """What `validation_figures` needs of each example, where that is less work than `predict`."""
        return self.predict(model, part, numbers, device)

    def validation_figures(self, part: Any, predicted: Sequence[Any]) -> Mapping[str, float]:
        """Figures while training, those that may select (`TaskConfig.selects`) among them.

        Args:
            part: the encoded validation part.
            predicted: what `predict_validation` gave for each example.
        """
        ...

    def figures(self, part: Any, predicted: Sequence[Any]) -> dict[str, Any]:
        """All figures of a saved model, JSON-able.

        Args:
            part: an encoded part.
            predicted: what `predict` gave for each example.

        Raises:
            UserError: predictions that are not finite numbers.
        """
        ...

    def mean_prediction(self, predicted: Sequence[Any]) -> Any:
        """What several models say together of an example, from what `predict` gave for each: their ensemble.

        A task whose predictions have no mean does not write this method.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} takes no mean of predictions")

    def prediction(self, example: Any, predicted: Any) -> dict[str, Any]:
        """The line of an example in `predictions-PART.jsonl`."""
        ...

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """Write everything that using the model needs, its tokenizer included.

        Args:
            folder: an empty directory.
            network: as `network` made it; its own weights do not count.
            weights: the trained ones, by name.
            pretrained: where it came from.
        """
        ...

    def load(self, folder: Path) -> torch.nn.Module:
        """The model that `save` wrote, in fp32; read as a user reads it."""
        ...

    def baselines(
        self, examples: Mapping[str, Sequence[Any]], encoded: Mapping[str, Any], part: str
    ) -> dict[str, dict[str, Any]]:
        """Figures of other systems on the part `part`, by name."""
        return {}

    def plots(self) -> Mapping[str, Callable[[Mapping[str, Any], Path], None]]:
        """File name -> what draws it, from the figures of the fine-tuned model."""
        return {}

    def tables(self, systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
        """What is printed at the end, as lines or `rich` tables: the figures of every system on a part."""
        for name, figures in systems.items():
            numbers = (f"{key} {value:.4f}" for key, value in figures.items() if isinstance(value, float))
            yield f"{part}: {name}  " + "  ".join(numbers)

    def next_command(self, folder: Path) -> str | None:
        """A command that uses the saved model."""
        return None
