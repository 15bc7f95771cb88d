"""What an objective has to do: samples -> micro-batches -> named losses -> figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pretrain.config import ModelConfig, RunConfig
from pretrain.data.batch import MicroBatch
from pretrain.data.samples import Samples
from pretrain.data.stream_builder import EVALUATION_SEED
from pretrain.data.token_facts import TokenFacts

if TYPE_CHECKING:
    import torch

    from pretrain.models.family import Output


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective may know beside its own config.

    Attributes:
        model: the network.
        tokens: what the token ids are.
        seed: decides all that is random, together with a sample's number.
        documents_apart: whether each document of a sample is read alone.
        is_evaluation: whether its batches measure; then nothing may depend on the run's own seed or progress.
    """

    model: ModelConfig
    tokens: TokenFacts
    seed: int
    documents_apart: bool = False
    is_evaluation: bool = False


class EvaluationSums(Protocol):
    """What an evaluation adds up: the part of an objective that the engine then needs."""

    evaluation_names: tuple[str, ...]
    """The names of the sums that `evaluation_sums` gives."""

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """What is added up over an evaluation, a scalar each."""
        ...


class EvaluatedObjective(EvaluationSums, Protocol):
    """What evaluates samples: an objective, or one with figures of others added."""

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """The micro-batch of `samples`; `number` is its number in the global batch."""
        ...

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """What an evaluation reports, from its sums over all ranks: `loss` in nats, and whatever tells more."""
        ...


class Objective(EvaluatedObjective, Protocol):
    """One way to learn from text. Made with (its config, an `ObjectiveContext`).

    What is random in a batch is a function of (seed, sample number), `Samples.numbers`: the same in every layout and
    after every resume.
    """

    coefficients: Mapping[str, float]
    """The names of its losses, in a fixed order, and what each is multiplied by in the loss that is trained."""

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How much of each loss there is in a batch (such as how many labels), a scalar each; from the batch alone."""
        ...

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The sum of each loss over a batch, a scalar each, fp32. Their mean over the global batch is sum / weight."""
        ...


def make_objective(config: RunConfig, tokens: TokenFacts, *, is_evaluation: bool) -> Objective:
    """The objective of a run.

    Args:
        config: the run.
        tokens: what its token ids are.
        is_evaluation: whether it measures, on the same samples and masks whatever the run.
    """
    context = ObjectiveContext(
        model=config.model,
        tokens=tokens,
        seed=EVALUATION_SEED if is_evaluation else config.seed,
        documents_apart=config.data.reset_attention_at_documents,
        is_evaluation=is_evaluation,
    )
    objective: Objective = config.objective.implement()(config.objective, context)
    return objective
