"""What every objective declares: how samples are cut, which models it fits, whether documents are kept apart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from configs.kinds import Named
from pretrain.config.model import ModelConfig
from pretrain.config.sampling import SampleCutting


class ObjectiveConfig(Named):
    """A training objective. A subclass declares one kind, with the keys that only it has."""

    labels_are_tokens: ClassVar[bool] = False
    """Whether every token of a text is a label, each once: then losses compare with those of n-gram models."""

    labels_special_tokens: ClassVar[bool] = True
    """Whether a unigram model has to say special tokens, such as the end of a document, too; if not, they cost it
    nothing."""

    takes_shorter_samples: ClassVar[bool] = False
    """Whether it reads samples of fewer tokens than it cuts itself, and pads its rows: beside others in a mixture."""

    evaluation_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that evaluations alone read: a run may go on with others."""

    @property
    def puts_special_tokens(self) -> bool:
        """Whether the rows that the model reads begin and end with special tokens that are not in the corpus."""
        return False

    @abstractmethod
    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """How the corpora are cut for a model.

        Args:
            model: gives the longest sample.
            documents_apart: whether each document of a sample is to be read alone.
        """

    def lengths(self, model: ModelConfig) -> tuple[int, ...]:
        """Every length of sample that a run will see; a layout must fit all of them."""
        return (model.seq_length,)

    def length_at(self, consumed_samples: int, model: ModelConfig) -> int:
        """Tokens in a row of the step that begins after `consumed_samples`: one of `lengths`."""
        return model.seq_length

    def target_tokens(self, model: ModelConfig) -> int | None:
        """Tokens of the longest target of a decoder beside an encoder; None: there are no targets of their own."""
        return None

    def num_sentinels(self, model: ModelConfig) -> int:
        """Sentinels that the tokenizer must have."""
        return 0

    @property
    def reads_words(self) -> bool:
        """Whether the tokenizer must mark where words begin."""
        return False

    def evaluated(self) -> dict[str, Any]:
        """The keys that decide what an evaluation asks, with their values; losses compare where they are equal."""
        return self.resolved()

    def notes(self) -> list[str]:
        """What a user is told at the start, a sentence each."""
        return []

    def problems(self, model: ModelConfig) -> list[str]:
        """Why `model` cannot be trained on this objective, a sentence each; empty if it can."""
        return []

    def layout_problems(self, model: ModelConfig, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """Why `model` cannot be trained on this objective over axes of these sizes, a sentence each.

        Args:
            model: what is trained; it says itself whether samples of its own length fit.
            sizes: of the parallel axes by name, such as {"tensor": 2, "pipeline": 1, "data": 4}.
            sequence_parallel: whether norms and dropouts are split along the sequence.
        """
        return [
            f"the length {length} of objective is not a multiple of the tensor size {sizes['tensor']}"
            for length in self.lengths(model)
            if sequence_parallel and length != model.seq_length and length % sizes["tensor"]
        ]

    def roles(self) -> tuple[str, ...]:
        """Roles of special tokens that the tokenizer must have, such as `mask`."""
        return ()
