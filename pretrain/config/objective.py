"""What every objective declares: how samples are cut, which models it fits, whether documents are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from configs.kinds import Named
from pretrain.config.model import ModelConfig


@dataclass(frozen=True)
class Sampling:
    """How an objective wants the corpora cut into samples.

    Attributes:
        index: what finds sample number n, as `module:Class`; see `pretrain/data/sample_index.py`.
        stride_tokens: tokens by which one sample begins after the other; each is a label once per epoch.
        overlap_tokens: tokens beyond those that a sample has in common with the next one (1 for next-token labels).
        marks_documents: whether samples come with `document_starts`.
        needs_sentences: whether shards must keep sentence boundaries (`tokenize sentences=true`).
    """

    index: str
    stride_tokens: int
    overlap_tokens: int = 0
    marks_documents: bool = False
    needs_sentences: bool = False


class ObjectiveConfig(Named):
    """A training objective. A subclass declares one kind, with the keys that only it has."""

    labels_are_tokens: ClassVar[bool] = False
    """Whether every token of a text is a label, each once: then losses compare with those of n-gram models."""

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> Sampling:
        """How the corpora are cut for a model.

        Args:
            model: gives the longest sample.
            documents_apart: whether each document of a sample is to be read alone.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how samples are cut")

    def lengths(self, model: ModelConfig) -> tuple[int, ...]:
        """Every length of sample that a run will see; a layout must fit all of them."""
        return (model.seq_length,)

    def problems(self, model: ModelConfig) -> list[str]:
        """Why `model` cannot be trained on this objective, a sentence each; empty if it can."""
        return []

    def roles(self) -> tuple[str, ...]:
        """Roles of special tokens that the tokenizer must have, such as `mask`."""
        return ()
